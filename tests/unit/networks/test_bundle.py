"""Bundles: what goes in comes out, nothing runs, damage is told, names stay at home; and ONNX, where it is installed."""

import copy
import json
import pickletools
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segstudy.cases import anonymous_name
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.networks import build, onnx_export
from segstudy.networks.bundle import bundle_content, checksum, load_members, read_bundle
from segstudy.networks.initial_weights import read_initial
from segstudy.networks.weights import Trained, save_weights, write_content
from segstudy.study import (
    AttentionUnetModel,
    EnetModel,
    NnunetModel,
    PluginModel,
    SwinUnetrModel,
    UnetModel,
    UnetrModel,
)

PLUGIN = Path(__file__).resolve().parents[3] / "resources" / "plugins" / "residual_net.py"
PATCH = (16, 16, 8)


def write(path, seed=0, model=None, structures=("liver", "tumour"), patch=PATCH):
    """A network with fresh weights, which knows two training cases and their images."""
    torch.manual_seed(seed)
    model = model or UnetModel(network="unet", channels=(4, 8), patch_size=PATCH, device="cpu")
    plan = Plan((1.0, 1.0, 2.0), "none", 0, "zscore", 3, None, (), (20, 20, 10)).to_dict()
    spacing = (1.0, 1.0, 2.0)[: model.dims]
    network = build(model, 1, 1 + len(structures), patch[: model.dims], spacing)
    provenance = {
        "fold": seed,
        "seed": 3,
        "training": ["site/Anna", "site/Bo"],
        "validation": ["site/Cy"],
        "images": {"site/Anna": "a1", "site/Bo": "b2", "site/Cy": "c3"},
    }
    trained = Trained(network, model, structures, ("ct",), plan, patch[: model.dims], provenance)
    save_weights(path, trained)
    network.eval()
    return trained


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for fold in (0, 1):
        (tmp_path / f"fold-{fold}").mkdir()
        write(tmp_path / f"fold-{fold}" / "weights.pt", fold)
    return tmp_path


def test_what_goes_in_comes_out(folder, capsys):
    (folder / "card.md").write_text("# Ours\n\nNot for children.\n")
    words = ["--weights", "fold-*/weights.pt", "--output", "m.bundle", "--card", "card.md"]
    assert main(["bundle", *words, "--colours", '{"tumour": "#ff0000"}']) == 0
    assert "m.bundle: 2 networks, checksum" in capsys.readouterr().out
    bundle = read_bundle(folder / "m.bundle")
    assert list(bundle.members) == ["unet, fold 0, seed 3", "unet, fold 1, seed 3"]
    assert bundle.card == "# Ours\n\nNot for children.\n"
    assert bundle.colours == {"liver": (230, 159, 0), "tumour": (255, 0, 0)}
    loaded = load_members(["m.bundle"])
    separate = load_members(["fold-0/weights.pt", "fold-1/weights.pt"])
    for one, other in zip(loaded.members, separate.members, strict=True):
        for name, tensor in one.network.state_dict().items():
            assert torch.equal(tensor, other.network.state_dict()[name])
        same = {"network": None}
        assert replace(one, **same) == replace(other, **same)
    assert main(["bundle", "--show", "m.bundle"]) == 0
    shown = capsys.readouterr().out
    assert "Not for children." in shown
    assert "unet, fold 1, seed 3: liver, tumour; trained on 3 cases, 3 of them known by" in shown


def test_the_same_weights_give_the_same_bytes_and_a_card(folder):
    for name in ("a", "b"):
        assert main(["bundle", "--weights", "fold-*/weights.pt", "--output", name]) == 0
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    # A bundle of a bundle is that bundle.
    assert main(["bundle", "--weights", "a", "--output", "c"]) == 0
    assert (folder / "a").read_bytes() == (folder / "c").read_bytes()
    card = read_bundle("a").card
    assert "Segments: liver, tumour." in card
    assert "Trained on 2 cases; 1 further ones" in card
    assert "What it must not be used for".lower() in card.lower()


def test_there_is_no_code_in_it(folder):
    """Of all that pickle could call, the file names the making of tensors and dicts alone."""
    assert main(["bundle", "--weights", "fold-*/weights.pt", "--output", "m"]) == 0
    assert isinstance(torch.load("m", weights_only=True), dict)
    with zipfile.ZipFile("m") as archive:
        name = next(one for one in archive.namelist() if one.endswith("data.pkl"))
        found = {
            argument
            for code, argument, _ in pickletools.genops(archive.read(name))
            if code.name == "GLOBAL"
        }
    assert found <= {
        "torch._utils _rebuild_tensor_v2", "collections OrderedDict", "torch FloatStorage",
        "torch LongStorage",
    }  # fmt: skip


def test_a_damaged_bundle_is_told(folder, capsys):
    assert main(["bundle", "--weights", "fold-*/weights.pt", "--output", "m"]) == 0
    content = Path("m").read_bytes()
    cases = {"empty": b"", "truncated": content[: len(content) // 2], "short": content[:-100]}
    for number, place in enumerate(np.linspace(10, len(content) - 30, 15).astype(int)):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        cases[f"byte-{number}"] = bytes(changed)
    refused = 0
    for name, damaged in cases.items():
        Path(name).write_bytes(damaged)
        try:
            bundle = read_bundle(name)
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{name}: ")
            assert "damaged" in str(error) or "expected a" in str(error)
        else:  # a byte that nothing hangs on, as padding between the parts of the file
            assert bundle.checksum == read_bundle("m").checksum
    assert refused > 9
    assert main(["infer", "--weights", "truncated", "--output", "out", "scan.nii.gz"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_number_that_was_changed_is_told(folder):
    """Written anew by torch, so that the file itself is whole."""
    assert main(["bundle", "--weights", "fold-*/weights.pt", "--output", "m"]) == 0
    content = torch.load("m", weights_only=True)
    next(iter(content["members"].values()))["state"]["heads.0.bias"][0] += 1e-6
    torch.save(content, "changed")
    with pytest.raises(InputError, match=r"changed: its content has the checksum .* was changed"):
        read_bundle("changed")


def test_anonymous_bundles_name_nobody_and_know_everybody(folder):
    assert main(["bundle", "--weights", "fold-0/weights.pt", "--output", "m", "--anonymous"]) == 0
    content = Path("m").read_bytes()
    for name in (b"Anna", b"site/Bo", b"Cy"):
        assert name not in content
    (member,) = load_members(["m"]).members
    known = member.provenance
    assert known["training"] == sorted(map(anonymous_name, ["site/Anna", "site/Bo"]))
    assert set(known["images"].values()) == {"a1", "b2", "c3"}
    from segstudy.infer.predict import choice_names, refuse_leaks

    refuse_leaks(member, 0, "site", ["Dora"])
    for name in ("Anna", "Cy"):
        with pytest.raises(InputError, match=f"site/{name}, which the weights were trained on"):
            refuse_leaks(member, 0, "site", ["Dora", name])
    assert choice_names(member) == []


def test_a_name_that_would_be_left_is_told(folder, capsys):
    write(folder / "named.pt", structures=("liver", "Anna"))
    assert main(["bundle", "--weights", "named.pt", "--output", "m", "--anonymous"]) == 1
    assert "the name of case 'Anna' stands in the settings" in capsys.readouterr().err
    assert not Path("m").exists()
    # Within a text, and of the cases of the weights before, too.
    for path, name in (("/data/Anna/scan.nii", "Anna"), ("old_Dora.pt", "Dora")):
        trained = write(folder / "named.pt")
        provenance = trained.provenance | {"initial_weights": {"images": {"d4": "old/Dora (of p)"}}}
        plan = trained.plan | {"made_from": path}
        save_weights("named.pt", replace(trained, plan=plan, provenance=provenance))
        assert main(["bundle", "--weights", "named.pt", "--output", "m", "--anonymous"]) == 1
        assert f"the name of case '{name}' stands in" in capsys.readouterr().err
        assert not Path("m").exists()
    save_weights("named.pt", replace(trained, plan=trained.plan | {"made_from": "Annabel 1"}))
    assert main(["bundle", "--weights", "named.pt", "--output", "m", "--anonymous"]) == 0


def test_a_later_format_and_weights_as_output_are_told(folder, capsys):
    for written in ("segstudy bundle 2", "segstudy weights 2"):
        torch.save({"format": written}, "later.pt")
        with pytest.raises(InputError, match=f"'{written}'.* a later one wrote it"):
            load_members(["later.pt"])
    with pytest.raises(InputError, match="'segstudy bundle 2'.* a later one wrote it"):
        torch.save({"format": "segstudy bundle 2"}, "later.pt")
        read_bundle("later.pt")
    torch.save({"format": "other"}, "other.pt")
    with pytest.raises(InputError, match="other found; expected a 'segstudy weights 1' file, or a"):
        load_members(["other.pt"])
    before = Path("fold-0/weights.pt").read_bytes()
    words = ["bundle", "--weights", "fold-*/weights.pt", "--output", "fold-1/../fold-0/weights.pt"]
    assert main(words) == 1
    assert "is one of the weights, and would be overwritten" in capsys.readouterr().err
    assert Path("fold-0/weights.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "none-*.pt", "--output", "m"], "no file matches this pattern"),
        (["--weights", "fold-0/weights.pt"], "nothing to write"),
        (["--weights", "fold-0/weights.pt", "lung.pt", "--output", "m"], "structures lung, tumour"),
        (["--weights", "fold-0/weights.pt", "--output", "fold-1"], "fold-1: a folder"),
        (["--weights", "fold-0/weights.pt", "--output", "m", "--card", "no.md"], "not readable"),
        (
            ["--weights", "fold-0/weights.pt", "--output", "m", "--colours", '{"lung": "red"}'],
            "lung; expected names of liver, tumour",
        ),
        (
            ["--weights", "fold-0/weights.pt", "--output", "m", "--colours", '{"liver": "rot"}'],
            "'rot' is no colour",
        ),
        (
            ["--weights", "fold-0/weights.pt", "--output", "m", "--plugin", str(PLUGIN)],
            "needs no plug-in",
        ),
        (["--show", "fold-0/weights.pt"], "expected a 'segstudy bundle 1' file"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(folder, capsys, words, said):
    write(folder / "lung.pt", structures=("lung", "tumour"))
    assert main(["bundle", *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not Path("m").exists()


def a_calibration(**changed):
    """Of liver and tumour, as statistics writes it for few subjects."""
    ranges = {"volume_ml": {"centre": 2.0, "scale": 0.1}}
    curve = {"scores": [0.5, 1.0], "values": [0.4, 0.9]}
    dice = {"fit": curve, "folds": [curve, curve], "fold": [0, 1], "residuals": [0.1, 0.2], "weights": [1.0, 1.0]}  # fmt: skip
    one = {"always": True, "ranges": ranges, "limits": {"volume_ml": 3.0}, "dice": dice, "log_volume": 0.1}  # fmt: skip
    record = {"format": "segstudy quality 1", "model": "unet", "kind": "seeds", "subjects": 12,
              "structures": {"liver": one, "tumour": one}, "limit": 1.5, "reason": ""}  # fmt: skip
    return record | changed


def _spoiled(record, place, value):
    """A record with another value at a place; None: without that key."""
    record = copy.deepcopy(record)
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return record


DICE = ("structures", "liver", "dice")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "segstudy quality 9"),
        (("subjects",), None),
        (("subjects",), "many"),
        (("kind",), "horoscope"),
        (("structures",), [1]),
        (("structures", "tumour"), None),
        (("structures", "tumour", "ranges", "beauty"), {"centre": 0, "scale": 1}),
        (("structures", "tumour", "ranges", "volume_ml", "scale"), 0),
        (("structures", "tumour", "limits", "volume_ml"), "x"),
        (("structures", "tumour", "log_volume"), 1e6),
        (("limit",), float("nan")),
        ((*DICE, "fit"), {"scores": [], "values": []}),
        ((*DICE, "folds"), [{"scores": [1, 0], "values": [0, 1]}] * 2),
        ((*DICE, "fold"), [0, 7]),
        ((*DICE, "residuals"), [0.1]),
        ((*DICE, "weights"), ["a", "b"]),
    ],
    ids=str,
)
def test_a_calibration_of_a_wrong_shape_is_told(folder, capsys, place, value):
    """Its checksum is right: a stranger has written it. Whoever reads the bundle is told, by its name."""
    content = bundle_content(["fold-0/weights.pt"], calibration=a_calibration())
    assert "calibrated on 12 held-out subjects" in content["card"]
    content["calibration"] = _spoiled(content["calibration"], place, value)
    content["checksum"] = checksum({k: v for k, v in content.items() if k != "checksum"})
    write_content("m.bundle", content)
    for words in (
        ["bundle", "--show", "m.bundle"],
        ["bundle", "--weights", "m.bundle", "--output", "again"],
        ["infer", "--weights", "m.bundle", "--output", "out", "scan.nii.gz"],
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "m.bundle: its calibration: " in error
        assert "Traceback" not in error
    assert not Path("again").exists()
    Path("q.json").write_text(json.dumps(_spoiled(a_calibration(), place, value)))
    words = [
        "bundle",
        "--weights",
        "fold-0/weights.pt",
        "--output",
        "m2",
        "--calibration",
        "q.json",
    ]
    assert main(words) == 1
    assert "q.json: " in capsys.readouterr().err


def test_a_bundle_tells_its_card_and_checksum_where_it_is_alone(folder):
    content = bundle_content(["fold-0/weights.pt"], card="# Ours\n", calibration=a_calibration())
    write_content("m.bundle", content)
    loaded = load_members(["m.bundle"])
    assert (loaded.card, loaded.checksum) == ("# Ours\n", content["checksum"])
    assert loaded.calibration["subjects"] == 12
    several = load_members(["m.bundle", "fold-1/weights.pt"])
    assert (several.card, several.checksum, several.calibration) == ("", "", None)


def _sparse():
    return torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("members", 0, "model"), None),
        (("members", 0, "provenance"), 3),
        (("members", 0, "plan", "spacing_mm"), "x"),
        (("members", 0, "structures"), [1, 2]),
        (("members", 0, "patch_size"), ["a", "b", "c"]),
        (("members", 0, "plugins"), "text"),
        (("members", 0, "structures"), ["liver", "liver"]),
        (("members", 0, "left_right_pairs"), [["liver", "spleen"]]),
        (("members", 0, "plan", "crop"), "head"),
        (("members", 0, "plan", "normalise"), "ct"),
        (("members", 0, "plan", "channels"), [3]),
        (("members", 0, "plan", "median_shape"), "x"),
        (("members", 0), "text"),
        (("colours",), {"liver": 3}),
        (("card",), _sparse()),
    ],
    ids=str,
)
def test_content_of_a_wrong_shape_is_told(folder, capsys, place, value):
    """Its checksum is right: another program, or a person, has written it."""
    content = bundle_content(["fold-0/weights.pt"])
    inner = content
    for key in place[:-1]:
        inner = inner[key] if key else next(iter(inner.values()))
    last = place[-1] or next(iter(inner))
    inner[last] = value
    del content["checksum"]
    told = "" if isinstance(value, torch.Tensor) else checksum(content)
    torch.save({**content, "checksum": told}, "forged")
    for words in (
        ["bundle", "--show", "forged"],
        ["bundle", "--weights", "forged", "--output", "m"],
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "forged: " in error
        assert "Traceback" not in error


class _Evil:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_a_file_is_told_and_no_card_commands_the_terminal(folder, capsys):
    torch.save({"format": "segstudy weights 1", "evil": _Evil()}, "evil.pt")
    with pytest.raises(InputError, match="anything else could run code") as told:
        load_members(["evil.pt"])
    assert "torch.load" not in str(told.value)
    Path("card.md").write_text("# Ours\x1b]0;title\x07\x1b[2J\n")
    words = ["--weights", "fold-0/weights.pt", "--output", "m", "--card", "card.md"]
    assert main(["bundle", *words]) == 0
    capsys.readouterr()
    assert main(["bundle", "--show", "m"]) == 0
    shown = capsys.readouterr().out
    assert "# Ours" in shown
    assert not {"\x1b", "\x07"} & set(shown)


def test_card_and_show_tell_of_the_weights_before(folder, capsys):
    trained = write("tuned.pt")
    before = {"a1": "old/Anna (of p.pt)", "d4": "old/Dora (of p.pt)", "e5": "old/Emil (of p.pt)"}
    provenance = trained.provenance | {"initial_weights": {"file": "p.pt", "images": before}}
    save_weights("tuned.pt", replace(trained, provenance=provenance))
    assert main(["bundle", "--weights", "tuned.pt", "--output", "m"]) == 0
    assert "started from knew 2 further cases." in read_bundle("m").card
    capsys.readouterr()
    assert main(["bundle", "--show", "m"]) == 0
    assert "fine-tuned from weights that knew 2 further cases" in capsys.readouterr().out


def test_a_bundle_says_what_was_fine_tuned_from_what_and_what_was_trained_on_all(folder, capsys):
    model = UnetModel(
        network="unet",
        channels=(4, 8),
        patch_size=PATCH,
        initial_weights="p.pth",
        freeze=["encoder"],
    )
    trained = write("tuned.pt", model=model)
    before = {
        "file": "p.pth",
        "sha256": "5" * 64,
        "network": "nnunet",
        "images": {},
        "knows_all": False,
    }
    provenance = trained.provenance | {"initial_weights": before, "fold": "all"}
    save_weights("tuned.pt", replace(trained, provenance=provenance))
    words = ["bundle", "--weights", "tuned.pt", "fold-0/weights.pt", "--output", "m"]
    assert main(words) == 0
    card = read_bundle("m").card
    told = (
        "Fine-tuned (unet, fold all, seed 3) from p.pth (sha256 "
        + "5" * 64
        + "), of network nnunet; frozen: encoder."
    )
    assert told in card
    assert "They do not tell of all their cases" in card
    assert (
        "none held out to test them: unet, fold all, seed 3. These have no held-out result" in card
    )
    assert main([*words, "--anonymous"]) == 0
    first, second = read_bundle("m").members.values()
    kept = first["provenance"]["initial_weights"]
    assert kept == before | {"file": "initial weights"}
    assert "initial_weights" not in second["provenance"]
    assert "do not tell of all" in read_bundle("m").card
    capsys.readouterr()
    assert main(["bundle", "--show", "m"]) == 0
    shown = capsys.readouterr().out
    assert (
        "; fine-tuned from other weights, which do not tell of all their cases; no case of its study"
        in shown
    )
    assert shown.count("held out") == read_bundle("m").card.count("held out") + 1


def test_anonymous_weights_do_not_claim_to_know_what_those_before_did_not(folder):
    """Else who fine-tunes from the bundle is not warned that a tested case may be among them."""
    trained = write("tuned.pt")
    before = {
        "file": "p.pth",
        "sha256": "5" * 64,
        "network": "nnunet",
        "images": {},
        "knows_all": False,
    }
    save_weights(
        "tuned.pt", replace(trained, provenance=trained.provenance | {"initial_weights": before})
    )
    assert not read_initial("tuned.pt").knows_all
    (member,) = bundle_content(["tuned.pt"], anonymous=True)["members"].values()
    write_content("anonymous.pt", member)
    assert not read_initial("anonymous.pt").knows_all


def test_two_versions_of_a_plugin_are_told_apart_by_their_code(folder):
    own = {"network": "plugin", "patch_size": PATCH, "device": "cpu"}
    for place in ("a", "b"):
        Path(place).mkdir()
        text = PLUGIN.read_text() + f"\nVERSION = {place!r}\n"
        Path(place, "my_net.py").write_text(text)
        write(folder / f"{place}.pt", model=PluginModel(**own, network_plugin=f"{place}/my_net.py"))
    for used in (["a/my_net.py", "b/my_net.py"], ["b/my_net.py", "a/my_net.py"]):
        assert len(load_members(["a.pt", "b.pt"], used).members) == 2


def test_a_plugin_is_named_by_whoever_uses_the_bundle(folder, capsys):
    shutil.copy(PLUGIN, "my_net.py")
    own = {"network": "plugin", "network_plugin": "my_net.py", "patch_size": PATCH}
    write(folder / "own.pt", model=PluginModel(**own, device="cpu"))
    words = ["--weights", "own.pt", "fold-0/weights.pt", "--output", "m"]
    assert main(["bundle", *words]) == 1
    assert "holds no code itself; name the plug-in's file" in capsys.readouterr().err
    assert main(["bundle", *words, "--plugin", "my_net.py"]) == 0
    assert b"def forward" in Path("my_net.py").read_bytes()
    assert b"def forward" not in Path("m").read_bytes()
    with pytest.raises(InputError, match="name the plug-in's file or module: --plugin FILE"):
        load_members(["m"])
    assert len(load_members(["m"], ["my_net.py"]).members) == 2
    Path("my_net.py").write_text(Path("my_net.py").read_text() + "\nCHANGED = 1\n")
    from segstudy import plugins

    plugins.digest.cache_clear()
    with pytest.raises(InputError, match="other code"):
        load_members(["m"], ["my_net.py"])
    capsys.readouterr()
    assert main(["bundle", "--show", "m"]) == 0
    assert "needs the plug-in my_net.py: --plugin FILE" in capsys.readouterr().out


def test_only_a_bundle_is_replaced(folder, capsys):
    words = ["bundle", "--weights", "fold-0/weights.pt", "--output"]
    Path("card.md").write_text("# Ours")
    for there in ("card.md", "fold-1/weights.pt"):
        before = Path(there).read_bytes()
        assert main([*words, there, "--card", "card.md"]) == 1
        assert f"--output {there}: is there, and is no bundle" in capsys.readouterr().err
        assert Path(there).read_bytes() == before
    assert main([*words, "m"]) == main([*words, "m"]) == 0


def test_a_file_that_is_named_twice_counts_once(folder):
    loaded = load_members(["fold-0/weights.pt", "fold-*/weights.pt"])
    assert loaded.names == ("fold-0/weights.pt", "fold-1/weights.pt")


def test_checkpoints_of_nnunet_are_told(folder):
    content = {"network_weights": {}, "trainer_name": "nnUNetTrainer", "loss": np.float64(1.0)}
    torch.save(content, "checkpoint_final.pth")
    with pytest.raises(InputError, match="checkpoints of nnU-Net itself are not read"):
        load_members(["checkpoint_final.pth"])


# --- ONNX -----------------------------------------------------------------------------------------


def test_without_onnx_what_to_install_is_told(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["bundle", "--weights", "fold-0/weights.pt", "--onnx", "onnx"]) == 1
    assert "pip install 'segstudy[onnx]'" in capsys.readouterr().err
    assert not Path("onnx").exists()


def test_an_export_deletes_nothing_of_others(folder, capsys, monkeypatch):
    monkeypatch.setattr(onnx_export, "_library", lambda name: None)
    monkeypatch.setattr(onnx_export, "_write", lambda file, *_: file.write_bytes(b"onnx"))
    monkeypatch.setattr(onnx_export, "_apart", lambda *_: 0.0)
    words = ["bundle", "--weights", "fold-*/weights.pt"]
    for other in ("keep/thesis.txt", "json/settings.json", "model/01-unet.onnx", "deep/a/b.txt"):
        Path(other).parent.mkdir(parents=True)
        Path(other).write_text("{}")
        place = other.partition("/")[0]
        assert main([*words, "--onnx", place]) == 1
        assert f"--onnx {place}: holds " in capsys.readouterr().err
        assert Path(other).read_text() == "{}"
        assert len(list(Path(place).iterdir())) == 1
    for place in (".", "fold-0"):
        assert main([*words, "--onnx", place]) == 1
    assert Path("fold-0/weights.pt").is_file()
    # An earlier export is replaced as a whole, and an empty folder filled.
    Path("onnx").mkdir()
    assert main([*words, "--onnx", "onnx"]) == 0
    assert len(list(Path("onnx").iterdir())) == 4
    assert main(["bundle", "--weights", "fold-1/weights.pt", "--onnx", "onnx"]) == 0
    found = sorted(path.name for path in Path("onnx").iterdir())
    assert found == ["01-unet-fold-1-seed-3.json", "01-unet-fold-1-seed-3.onnx"]


NETWORKS = {
    "unet": (UnetModel(network="unet", channels=(4, 8)), PATCH),
    "unet_2d_cbam": (
        UnetModel(network="unet", dims=2, channels=(4, 8), attention="cbam", upsampling="linear"),
        (16, 16),
    ),
    "unet_siren": (UnetModel(network="unet", channels=(4, 8), head={"hidden": 4}), PATCH),
    "enet": (EnetModel(network="enet", channels=4), (16, 16)),
    "attention_unet": (AttentionUnetModel(network="attention_unet", channels=(4, 8)), (16, 16, 16)),
    "unetr": (
        UnetrModel(network="unetr", feature_size=4, hidden_size=24, heads=2),
        (16, 16, 16),
    ),
    "swin_unetr_2d": (SwinUnetrModel(network="swin_unetr", dims=2, feature_size=12), (64, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_computes_the_same(folder, name):
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    model, patch = NETWORKS[name]
    trained = write(folder / "w.pt", 0, model, patch=patch)
    words = ["--weights", "w.pt", "--output", "m", "--onnx", "onnx"]
    assert main(["bundle", *words]) == 0
    (file,) = Path("onnx").glob("*.onnx")
    told = json.loads(file.with_suffix(".json").read_text())
    assert told["input"]["shape"] == [1, 1, *patch]
    assert told["output"]["classes"] == ["background", "liver", "tumour"]
    assert told["preprocessing"]["spacing_mm"] == [1.0, 1.0, 2.0]
    image = np.random.default_rng(5).normal(size=(1, 1, *patch)).astype(np.float32)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": image})
    with torch.no_grad():
        expected = trained.network.eval()(torch.from_numpy(image)).numpy()
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_file_with_other_numbers_is_not_handed_out(folder, monkeypatch):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra `onnx` is not installed")
    trained = write(folder / "w.pt")
    monkeypatch.setattr(onnx_export, "_write", _writes_another())
    with pytest.raises(InputError, match="differ by .* cannot be handed out as ONNX"):
        onnx_export.export({"m": trained}, folder / "onnx", {})
    assert not (folder / "onnx").exists()


def _writes_another():
    """Plant a file of other weights."""
    real = onnx_export._write

    def planted(file, name, given):
        other = write(Path("other.pt"), 9)
        real(file, name, replace(given, network=other.network))

    return planted


def test_what_torch_cannot_export_is_told(folder, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("planted\nmore of it")

    monkeypatch.setattr(torch.onnx, "export", failing)
    monkeypatch.setattr(onnx_export, "_library", lambda name: None)
    trained = write(folder / "w.pt")
    with pytest.raises(
        InputError, match=r"^m: network unet cannot be exported as ONNX \(RuntimeError: planted\)"
    ):
        onnx_export.export({"m": trained}, folder / "onnx", {})
    assert not (folder / "onnx").exists()


def test_the_json_of_an_onnx_file_tells_what_is_done_around_the_network(folder):
    ours = write(folder / "w.pt")
    body = replace(ours, plan=ours.plan | {"crop": "body", "margin_mm": 12.0})
    told = " ".join(onnx_export.description("m", body, {})["preprocessing"]["steps"])
    assert "parts above -500 HU" in told and "widened by 12 mm" in told

    plan = {"spacing_mm": [2.0, 1.0, 1.0], "mirroring_axes": [0, 2], "configuration": "3d_fullres"}
    for settings, mirrored in (({}, ["z", "x"]), ({"infer": {"mirroring": False}}, [])):
        model = NnunetModel(network="nnunet", **settings)
        nnunet = onnx_export.description("m", replace(ours, model=model, plan=plan), {})
        assert nnunet["windows"]["mirror_axes"] == mirrored
        assert "as nnU-Net does" in nnunet["postprocessing"]["resampling"]
