"""Fine-tuning takes the layers that fit, trains those that are not frozen, and refuses a tested case that the weights have seen."""

import json

import numpy as np
import pytest
import torch
from toy_cohort import SHAPE, STRUCTURES

from segstudy.cases import Case, write_cases
from segstudy.cli import main
from segstudy.errors import InputError
from segstudy.images.plan import Plan
from segstudy.networks import build
from segstudy.networks.bundle import bundle_content, write_bundle
from segstudy.networks.initial_weights import HEAD, InitialWeights, head_of, read_initial, take
from segstudy.networks.weights import FORMAT, Trained, save_weights
from segstudy.study import Optimizer, TrainSettings, UnetModel, from_json
from segstudy.train.fine_tuning import keep_statistics, start
from segstudy.train.trainer import build_optimizer

MODEL = {
    "network": "unet",
    "channels": [4, 8],
    "patch_size": [16, 16, 8],
    "epochs": 1,
    "steps_per_epoch": 2,
    "normalisation": "batch",
}

pytestmark = pytest.mark.usefixtures("own_torch")


def network(classes=3, channels=(4, 8), in_channels=1, **further):
    model = UnetModel(network="unet", channels=channels, normalisation="batch", **further)
    return build(model, in_channels, classes, (16, 16, 8), (1.0, 1.0, 2.0))


def table(folder, looks=(0, 1, 2, 3, 4, 5), dataset="toy"):
    """A case table of the toy cohort, whose checksums say which images are the same."""
    cases = [
        Case(
            f"case_{number}",
            f"subject_{number}",
            (folder / "image.nii.gz",),
            folder / "label.nii.gz",
            shape=SHAPE,
            checksum=f"image-{look}",
        )
        for number, look in enumerate(looks)
    ]
    write_cases(folder / f"{dataset}.tsv", cases, ["image"])
    return ["--cases", f"{dataset}={folder / f'{dataset}.tsv'}"]


def state(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state"]


@pytest.fixture
def pretrained(cohort, tmp_path):
    """Weights of fold 0, whose training side is cases 1, 3 and 5."""
    output = tmp_path / "pretrained"
    assert main([*cohort.words(output, MODEL), *table(cohort.folder)]) == 0
    return output / "weights.pt"


def test_layers_that_fit_are_taken_and_others_say_why():
    given, own = network(classes=5, in_channels=2), network(classes=3)
    initial = InitialWeights("a.pt", "0", "unet", given.state_dict())
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    taken, anew = take(own, initial, head_of(own, network(classes=4)))
    assert anew == {
        "encoder.0.0": "weight is 4x2x3x3x1 in the file, 4x1x3x3x1 here",
        "heads.0": HEAD,
    }
    after = own.state_dict()
    for name, tensor in after.items():
        layer = name.rpartition(".")[0]
        source = given.state_dict() if layer in taken else before
        assert torch.equal(tensor, source[name]), name
    assert "encoder.0.1" in taken and len(taken) == len({n.rpartition(".")[0] for n in after}) - 2


def test_the_head_is_what_depends_on_the_classes():
    assert head_of(network(classes=3), network(classes=4)) == {"heads.0"}
    siren = {"head": {"hidden": 8, "layers": 1}}
    assert head_of(network(3, **siren), network(4, **siren)) == {"out"}


def test_nothing_that_fits_is_an_error_with_the_reason():
    other = InitialWeights("b.pt", "0", "enet", {"initial.weight": torch.zeros(3)})
    with pytest.raises(
        InputError,
        match=r"b.pt, of network enet: none of its layers fits .*encoder.0.0: not in the file",
    ):
        take(network(), other, {"heads.0"})


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        (
            ["encodr"],
            "encodr: no layer of this network has that name, .*expected one of encoder, up, decoder, heads",
        ),
        (["heads"], "heads.0 would keep random weights"),
    ],
)
def test_names_that_cannot_be_frozen_are_refused(freeze, told):
    given = InitialWeights("a.pt", "0", "unet", network().state_dict())
    with pytest.raises(InputError, match=told):
        start(network(), given, {"heads.0"}, freeze)


def test_frozen_layers_do_not_learn_nor_gather_statistics():
    own = network()
    start(
        own,
        InitialWeights("a.pt", "0", "unet", network().state_dict()),
        {"heads.0"},
        ["encoder", "up.0"],
    )
    learning = {name for name, parameter in own.named_parameters() if parameter.requires_grad}
    assert learning and not any(name.startswith(("encoder.", "up.0.")) for name in learning)
    own.train()
    keep_statistics(own)
    assert not own.encoder[0][1].training and own.decoder[0][1].training


def test_learning_rates_by_layer_are_those_of_the_longest_name():
    own = network()
    optimizer = build_optimizer(
        Optimizer(lr=0.5, lr_factors={"encoder": 0.1, "encoder.1": 0.2}), own
    )
    names = {id(parameter): name for name, parameter in own.named_parameters()}
    rates = {
        names[id(parameter)]: group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        expected = 0.1 if name.startswith("encoder.1.") else 0.05 if "encoder." in name else 0.5
        assert rate == pytest.approx(expected), name
    with pytest.raises(InputError, match="optimizer.lr_factors: nothing"):
        build_optimizer(Optimizer(lr_factors={"nothing": 0.1}), own)


def test_a_step_moves_layers_by_their_own_rates(cohort, tmp_path):
    """SGD without momentum and decay moves a weight in proportion to its rate."""
    plain = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 0.01}
    model = MODEL | {"steps_per_epoch": 1, "schedule": {"name": "constant"}, "optimizer": plain}
    slow = model | {"optimizer": {**plain, "lr_factors": {"encoder": 0.25}}}
    still = model | {"optimizer": {**plain, "lr": 1e-30}}
    weights = {}
    for name, settings in {"plain": model, "slow": slow, "still": still}.items():
        assert main(cohort.words(tmp_path / name, settings)) == 0
        weights[name] = state(tmp_path / name / "weights.pt")
    for name, first in weights["still"].items():
        if not name.endswith(("weight", "bias")):
            continue
        whole, part = (weights[kind][name] - first for kind in ("plain", "slow"))
        share = 0.25 if name.startswith("encoder.") else 1.0
        np.testing.assert_allclose(part, share * whole, atol=1e-6, err_msg=name)
        assert whole.abs().max() > 0


def test_frozen_weights_end_as_they_began_and_the_settings_tell(
    cohort, tmp_path, pretrained, caplog
):
    caplog.set_level("INFO")
    tuned = MODEL | {"initial_weights": str(pretrained), "freeze": ["encoder"]}
    output = tmp_path / "tuned"
    # Fold 1 is of cases that the first weights were not trained on, but it tests those that they were: not this cohort's names.
    splits = table(cohort.folder, looks=range(10, 16))
    assert main([*cohort.words(output, tuned, fold=1), *splits]) == 0
    first, last = state(pretrained), state(output / "weights.pt")
    for name in first:
        same = torch.equal(first[name], last[name])
        assert same == name.startswith("encoder."), name
    told = json.loads((output / "settings.json").read_text())
    assert told["model"]["initial_weights"] == "weights.pt"  # no path
    assert told["initial_weights"]["anew"] == {"heads.0": HEAD}
    assert told["initial_weights"]["frozen"] == [
        layer for layer in told["initial_weights"]["taken"] if layer.startswith("encoder.")
    ]
    assert "fine-tuning from weights.pt" in caplog.text and "frozen: encoder.0.0" in caplog.text
    assert str(tmp_path) not in json.dumps(
        torch.load(output / "weights.pt", weights_only=True)["model"]
    )


def test_other_weights_of_the_same_name_train_anew(cohort, tmp_path, pretrained, caplog):
    caplog.set_level("INFO")
    tuned = MODEL | {"initial_weights": str(pretrained)}
    words = [*cohort.words(tmp_path / "a", tuned), "--finished", str(tmp_path / "kept")]
    assert main(words) == 0
    first = (tmp_path / "a" / "weights.pt").read_bytes()
    again = [word.replace(str(tmp_path / "a"), str(tmp_path / "b")) for word in words]
    assert main(again) == 0
    assert "made before of the same settings" in caplog.text
    caplog.clear()
    assert (tmp_path / "b" / "weights.pt").read_bytes() == first
    assert main(cohort.words(tmp_path / "other", MODEL, seed=1)) == 0
    pretrained.write_bytes((tmp_path / "other" / "weights.pt").read_bytes())
    assert main([word.replace(str(tmp_path / "b"), str(tmp_path / "c")) for word in again]) == 0
    assert "made before" not in caplog.text
    assert (tmp_path / "c" / "weights.pt").read_bytes() != first


def test_a_tested_image_among_those_of_the_initial_weights_is_refused_before_training(
    cohort, tmp_path, pretrained, capsys
):
    """Fold 0 tests case 2; under whatever name, its image is that of case 3, which the weights were trained on."""
    tuned = MODEL | {"initial_weights": str(pretrained)}
    planted = table(cohort.folder, looks=(10, 11, 3, 13, 14, 15))
    assert main([*cohort.words(tmp_path / "out", tuned), *planted]) == 1
    said = capsys.readouterr().err
    assert (
        f"initial_weights: {pretrained}: was trained on the image of toy/case_2 (there toy/case_3)"
        in said
    )
    assert not (tmp_path / "out").exists()


def test_what_the_initial_weights_have_seen_the_tuned_ones_know_too(
    cohort, tmp_path, pretrained, capsys
):
    tuned = MODEL | {"initial_weights": str(pretrained)}
    unlike = table(cohort.folder, looks=range(10, 16))
    assert main([*cohort.words(tmp_path / "tuned", tuned), *unlike]) == 0
    capsys.readouterr()
    known = read_initial(tmp_path / "tuned" / "weights.pt")
    assert known.knows_all
    assert known.cases == {
        **{f"image-{n}": f"toy/case_{n} (of weights.pt)" for n in (1, 3, 5)},
        **{f"image-{n + 10}": f"toy/case_{n}" for n in (1, 3, 5)},
    }
    twice = MODEL | {"initial_weights": str(tmp_path / "tuned" / "weights.pt")}
    planted = table(cohort.folder, looks=(20, 21, 22, 23, 5, 25))
    assert main([*cohort.words(tmp_path / "twice", twice), *planted]) == 1
    assert "toy/case_4 (there toy/case_5 (of weights.pt))" in capsys.readouterr().err


def test_weights_that_do_not_know_their_cases_are_warned_of(cohort, tmp_path, caplog):
    assert main(cohort.words(tmp_path / "first", MODEL)) == 0  # no case table, so no checksums
    assert not read_initial(tmp_path / "first" / "weights.pt").knows_all
    tuned = MODEL | {"initial_weights": str(tmp_path / "first" / "weights.pt")}
    assert main(cohort.words(tmp_path / "tuned", tuned)) == 0
    assert "does not know all cases that it was trained on" in caplog.text
    assert not read_initial(tmp_path / "tuned" / "weights.pt").knows_all


def test_nnunets_checkpoints_are_read_without_running_code(tmp_path):
    content = {
        "network_weights": {"encoder.weight": torch.ones(2)},
        "_best_ema": np.float64(0.5),
        "logging": {"mean_fg_dice": [np.float32(0.5)], "lrs": [0.1]},
        "init_args": {"fold": 0},
    }
    torch.save(content, tmp_path / "checkpoint_final.pth")
    initial = read_initial(tmp_path / "checkpoint_final.pth")
    assert initial.network == "nnunet" and not initial.knows_all and not initial.cases
    assert torch.equal(initial.state["encoder.weight"], torch.ones(2))

    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"network_weights": Code()}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="could run code"):
        read_initial(tmp_path / "bad.pth")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such weights file"),
        ([1], "list found"),
        ({"other": 1}, "found other; expected a weights.pt"),
    ],
)
def test_other_files_are_refused(tmp_path, content, told):
    if content is not None:
        torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=told):
        read_initial(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"(lp0\n.", b"\x80\x02]q\x00.", b"text\n"])
def test_files_of_other_kinds_are_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pt: "):
        read_initial(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("key", "value"), [("provenance", "text"), ("provenance", {"images": ["x"]}), ("model", None)]
)
def test_weights_of_a_wrong_shape_are_refused(tmp_path, key, value):
    content = {"format": FORMAT, "model": {}, "provenance": {}, "state": {"w": torch.ones(1)}}
    read = tmp_path / "a.pt"
    torch.save(content, read)
    assert not read_initial(read).knows_all
    torch.save(content | {key: value}, read)
    with pytest.raises(InputError, match=f"{key} is missing or damaged"):
        read_initial(read)


def test_a_bundle_of_one_network_is_taken_and_one_of_several_is_not(tmp_path):
    model = UnetModel(network="unet", channels=(4, 8), normalisation="batch")
    plan = Plan((1.0, 1.0, 2.0), "none", 0, "zscore", 3, None, (), (20, 20, 10)).to_dict()
    known = {"fold": 0, "training": ["s/Anna"], "validation": [], "images": {"s/Anna": "1"}}
    for name in ("one", "two"):
        own = Trained(network(), model, ("a", "b"), ("ct",), plan, (16, 16, 8), known)
        save_weights(tmp_path / f"{name}.pt", own)
    one, two = (str(tmp_path / f"{name}.pt") for name in ("one", "two"))
    write_bundle(tmp_path / "one.bundle", bundle_content([one], anonymous=True))
    write_bundle(tmp_path / "both.bundle", bundle_content([one, two]))
    given, taken = read_initial(one), read_initial(tmp_path / "one.bundle")
    assert taken.file == "one.bundle" and taken.network == "unet" and taken.knows_all
    assert taken.cases.keys() == {"1"} == given.cases.keys()
    assert "Anna" not in str(taken.cases)
    assert all(torch.equal(values, taken.state[name]) for name, values in given.state.items())
    with pytest.raises(InputError, match="a bundle of 2 networks .* a training starts from one"):
        read_initial(tmp_path / "both.bundle")


def test_freezing_without_initial_weights_is_refused():
    content = {
        "model": MODEL | {"freeze": ["encoder"]},
        "structures": STRUCTURES,
        "channels": ["image"],
        "modality": "CT",
    }
    with pytest.raises(InputError, match="freeze: encoder: without initial_weights"):
        from_json(TrainSettings, json.dumps(content))


def test_what_is_trained_on_all_cases_is_no_model_of_a_fold(cohort, tmp_path):
    words = cohort.words(tmp_path / "all", MODEL | {"validation_fraction": 0})
    words[words.index("--fold") + 1] = "all"
    assert main(words) == 0
    known = torch.load(tmp_path / "all" / "weights.pt", weights_only=True)["provenance"]
    assert sorted(known["training"]) == [f"toy/case_{number}" for number in range(6)]
    assert known["fold"] == "all"
