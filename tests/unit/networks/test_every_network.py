"""A network is known in every place that tells of networks, and not in some of them alone."""

import re
import typing
from pathlib import Path
from typing import Literal

from pydantic import Field

from segstudy import study, study_command
from segstudy.publish import methods
from segstudy.study import AnyModel, Model
from segstudy.study.quick import shortened

REPOSITORY = Path(__file__).resolve().parents[3]
KINDS = [
    kind
    for kind in typing.get_args(typing.get_args(AnyModel)[0])
    if issubclass(kind, Model) and kind is not study.PluginModel
]


def lacking(kind: type[Model]) -> list[str]:
    """What a network lacks, a sentence each."""
    (name,) = typing.get_args(kind.model_fields["network"].annotation)
    model = kind(network=name, **({"dims": 2} if kind is study.EnetModel else {}))
    module = REPOSITORY / f"workflow/segstudy/networks/{name}.py"
    code = module.read_text(encoding="utf-8") if module.is_file() else ""
    parts = {
        part
        for part in ("build", "strides")
        if re.search(rf"^(def {part}\(|from .* import .*\b{part}\b)", code, re.M)
    }
    tried = Path(__file__).with_name("test_networks.py").read_text(encoding="utf-8")
    own = kind.model_fields.keys() - Model.model_fields.keys() - {"network", "dropout"}
    chain = (REPOSITORY / "docs/chain.md").read_text(encoding="utf-8")
    row = next(line for line in chain.splitlines() if line.startswith("| `train` |"))
    met = {
        f"workflow/segstudy/networks/{name}.py: no build and strides": len(parts) == 2,
        f"workflow/segstudy/study/__init__.py: does not export {kind.__name__}": kind.__name__
        in study.__all__,
        f"workflow/segstudy/study_command.py: _title has no `models: {name}`": study_command._title(
            kind
        )
        == f"models: {name}",
        f"workflow/segstudy/publish/methods.py: _architecture cites no source of {name}": "[["
        in methods._architecture(model, []),
        f"workflow/segstudy/study/quick.py: SMALL or CHANNELS makes {name} no smaller": own
        & shortened({"network": name, "dims": model.dims}).keys(),
        f"docs/chain.md: the row of train does not name {name}": name.replace("_", "")
        in re.sub(r"\W", "", row.lower()),
        f"tests/unit/networks/test_networks.py: SMALL has no {name}": f'"{name}"' in tried,
    }
    return [sentence for sentence, good in met.items() if not good]


def test_every_network_is_known_everywhere():
    assert len(KINDS) >= 5
    assert [sentence for kind in KINDS for sentence in lacking(kind)] == []


class HalfAddedModel(Model):
    """A network that has settings, and nothing else."""

    network: Literal["half_added"]
    width: int = Field(64, ge=1, description="channels")


def test_a_network_that_is_known_nowhere_is_told_place_by_place():
    told = lacking(HalfAddedModel)
    assert len(told) == 7
    assert "workflow/segstudy/study/quick.py: SMALL or CHANNELS makes half_added no smaller" in told
