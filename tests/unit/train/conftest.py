import pytest
import torch
from toy_cohort import Cohort, write_cohort


@pytest.fixture
def cohort(tmp_path) -> Cohort:
    return write_cohort(tmp_path / "cohort")


@pytest.fixture
def own_torch():
    """Put back what a training in this process sets for all of torch."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
