"""Every term of the loss against MONAI's, and against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from segstudy.errors import InputError
from segstudy.images.prepare import IGNORED
from segstudy.study import Loss
from segstudy.train.loss import SegmentationLoss, dice_weights, thinned

STRUCTURES = ("heart", "aorta", "trachea")


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def batch(request):
    torch.manual_seed(request.param)
    size = (7, 6, 5)[: request.param]
    return 2 * torch.randn(2, 4, *size), torch.randint(0, 4, (2, *size), dtype=torch.uint8)


def loss(**settings):
    shares = {"dice": 0.0, "cross_entropy": 0.0, "focal": 0.0} | settings
    return SegmentationLoss(Loss(**shares), STRUCTURES)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_dice_is_monais(batch, batch_dice, background):
    from monai.losses import DiceLoss

    logits, labels = batch
    peer = DiceLoss(softmax=True, to_onehot_y=True, include_background=background, batch=batch_dice)
    ours = loss(dice=1.0, batch_dice=batch_dice, dice_background=background)(logits, labels)
    torch.testing.assert_close(ours, peer(logits, labels[:, None].long()))


def test_weighted_dice_is_monais(batch):
    from monai.losses import DiceLoss

    logits, labels = batch
    weights = {"background": 0.1, "heart": 0.2, "aorta": 0.2, "trachea": 0.3}
    # MONAI divides by the number of classes, not by the sum of the weights.
    scaled = torch.tensor(list(weights.values())) / 0.8 * 4
    peer = DiceLoss(softmax=True, to_onehot_y=True, batch=True, weight=scaled)
    ours = loss(dice=1.0, class_weights=weights)(logits, labels)
    torch.testing.assert_close(ours, peer(logits, labels[:, None].long()))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_is_monais(batch, gamma):
    from monai.losses import FocalLoss

    logits, labels = batch
    peer = FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True)
    # MONAI averages over classes too, of which all but the true one are 0.
    expected = 4 * peer(logits, labels[:, None].long())
    torch.testing.assert_close(loss(focal=1.0, focal_gamma=gamma)(logits, labels), expected)


def test_focal_below_gamma_1_has_a_slope_where_a_voxel_is_certain():
    """(1 - p)^0.5 has an infinite slope at p = 1, which float32 reaches at logits 20 apart."""
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0, 0] = 30.0
    logits.requires_grad_()
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    value = loss(focal=1.0, focal_gamma=0.5)(logits, labels)
    value.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[:, :, 0].abs().max() < 1e-6 < logits.grad[:, :, 1].abs().min()
    # Twelve of sixteen voxels at p = 1/2.
    torch.testing.assert_close(value.detach(), torch.tensor(0.75 * 0.5**0.5 * math.log(2)))


TERMS = [
    {"dice": 1.0},
    {"dice": 1.0, "batch_dice": False, "dice_background": True},
    {"cross_entropy": 1.0},
    *[{"focal": 1.0, "focal_gamma": gamma} for gamma in (0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 5.0)],
]


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("term", TERMS, ids=lambda term: "-".join(map(str, term.values())))
def test_no_term_has_a_gradient_without_bound(term, kind, ignores):
    """Sure of the right class, of the wrong one, and undecided, up to the largest float16."""
    steps = torch.tensor([0.0, 1e-4, 1, 8, 16, 16.7, 17, 20, 40, 88, 104, 200, 1e4, 65504.0])
    logits = torch.stack([torch.cat([steps, -steps]), torch.zeros(28), torch.zeros(28)])
    logits = logits.repeat(2, 1, 1).to(kind).requires_grad_()
    labels = torch.tensor([0, 1], dtype=torch.uint8)[:, None].repeat(1, 28)
    shares = {"dice": 0.0, "cross_entropy": 0.0, "focal": 0.0} | term
    found = SegmentationLoss(Loss(**shares), ["a", "b"], ignores=ignores)(logits, labels)
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all()
    assert logits.grad.any()


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_the_slope_of_focal_below_gamma_1_is_that_of_its_formula(gamma):
    """-(1 - p)^gamma log p, by the logit of the true class of two, in double precision."""
    away = torch.linspace(-10, 15, 51)
    logits = torch.stack([away, torch.zeros(51)])[None].requires_grad_()
    loss(focal=1.0, focal_gamma=gamma)(logits, torch.zeros(1, 51).byte()).backward()
    z = away.double().requires_grad_()
    log_p = functional.logsigmoid(z)
    (functional.logsigmoid(-z).mul(gamma).exp() * -log_p).mean().backward()
    torch.testing.assert_close(logits.grad[0, 0].double(), z.grad, rtol=2e-3, atol=1e-9)


def test_shares_add_up(batch):
    logits, labels = batch
    parts = [loss(dice=1.0), loss(cross_entropy=1.0), loss(focal=1.0)]
    whole = loss(dice=0.7, cross_entropy=0.3, focal=0.2)(logits, labels)
    one, two, three = (part(logits, labels) for part in parts)
    torch.testing.assert_close(whole, 0.7 * one + 0.3 * two + 0.2 * three)
    torch.testing.assert_close(two, functional.cross_entropy(logits, labels.long()))


def test_dice_of_two_squares_that_share_a_half():
    """Sure of 4 voxels, of which 2 are right, where the truth has 4: Dice 1/2."""
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, :2, :2] = 1
    said = torch.zeros(1, 4, 4)
    said[0, 1:3, :2] = 1
    logits = torch.stack([1 - said, said], dim=1) * 100
    found = SegmentationLoss(Loss(dice=1, cross_entropy=0), ["square"])(logits, labels)
    assert found.item() == pytest.approx(0.5, abs=1e-5)


def test_a_class_weight_shifts_the_mean():
    """One structure found, the other missed: the loss is the missed one's share of the weights."""
    labels = torch.tensor([[[1, 1, 2, 2]]], dtype=torch.uint8)
    said = torch.tensor([[[1, 1, 0, 0]]])
    logits = functional.one_hot(said, 3).movedim(-1, 1).float() * 100
    settings = Loss(dice=1, cross_entropy=0, class_weights={"found": 3.0, "missed": 1.0})
    found = SegmentationLoss(settings, ["found", "missed"])(logits, labels)
    assert found.item() == pytest.approx(0.25, abs=1e-4)


def test_weights_of_classes():
    third = [0.0, *[1 / 3] * 3]
    assert dice_weights(Loss(), STRUCTURES).tolist() == pytest.approx(third)
    counted = dice_weights(Loss(dice_background=True), STRUCTURES)
    assert counted.tolist() == [0.25] * 4
    given = {"heart": 1.0, "aorta": 1.0, "trachea": 2.0}
    weights = dice_weights(Loss(class_weights=given), STRUCTURES)
    assert weights.tolist() == [0.0, 0.25, 0.25, 0.5]
    weights = dice_weights(Loss(class_weights=given | {"background": 4.0}), STRUCTURES)
    assert weights.tolist() == [0.5, 0.125, 0.125, 0.25]


def test_a_structure_without_a_weight_is_refused():
    with pytest.raises(InputError, match=r"class_weights: no weight for aorta"):
        dice_weights(Loss(class_weights={"heart": 1.0, "trachea": 1.0}), STRUCTURES)
    with pytest.raises(InputError, match="all weights are 0"):
        dice_weights(Loss(class_weights=dict.fromkeys(STRUCTURES, 0.0)), STRUCTURES)


def test_lower_resolutions_count_half_as_much_each():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 8, 8, 4), dtype=torch.uint8)
    logits = [torch.randn(2, 4, 8, 8, 4), torch.randn(2, 4, 4, 4, 4), torch.randn(2, 4, 2, 2, 2)]
    one = loss(dice=0.5, cross_entropy=0.5)
    expected = sum(
        share * one(part, thinned(labels, part.shape[2:]))
        for share, part in zip((4 / 7, 2 / 7, 1 / 7), logits, strict=True)
    )
    torch.testing.assert_close(one(logits, labels), expected)


def test_thinned_labels_keep_every_second_voxel():
    labels = torch.arange(16).reshape(1, 4, 4)
    assert thinned(labels, (2, 4)).tolist() == [[[0, 1, 2, 3], [8, 9, 10, 11]]]


def test_a_structure_that_is_nowhere_gives_a_finite_gradient():
    logits = torch.zeros(1, 4, 5, 5, requires_grad=True)
    found = loss(dice=1.0, focal=1.0)(logits, torch.zeros(1, 5, 5, dtype=torch.uint8))
    found.backward()
    assert math.isfinite(found.item())
    assert logits.grad.isfinite().all()


# --- voxels that nobody has labelled --------------------------------------------------------------


def ignoring(**settings):
    shares = {"dice": 0.0, "cross_entropy": 0.0, "focal": 0.0} | settings
    return SegmentationLoss(Loss(**shares), STRUCTURES, ignores=True)


def closed_form(logits, labels, batch_dice):
    """Dice, cross-entropy and focal loss (gamma 2) of the labelled voxels, picked out of their images."""
    probabilities = logits.softmax(1).movedim(1, -1)
    one_hot = functional.one_hot(labels.long().clamp(max=3), 4)
    known = labels != IGNORED
    images = (
        [known]
        if batch_dice
        else [
            known & (one == torch.arange(len(known)).view(-1, *[1] * (labels.ndim - 1)))
            for one in range(len(known))
        ]
    )
    parts = []
    for own in images:
        if own.any():
            p, t = probabilities[own], one_hot[own]
            parts.append(
                1 - ((2 * (p * t).sum(0) + 1e-5) / (p.sum(0) + t.sum(0) + 1e-5))[1:].mean()
            )
    true = probabilities[known].gather(1, labels[known].long()[:, None])
    return torch.stack(parts).mean(), -true.log().mean(), ((1 - true) ** 2 * -true.log()).mean()


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("empty", [0, 1], ids=["all with labels", "one without"])
def test_only_labelled_voxels_count(batch, batch_dice, empty):
    logits, labels = batch
    logits = torch.cat([logits, logits.flip(0)[:1]]).requires_grad_()
    labels = torch.cat([labels, labels[:1]])
    ignored = torch.rand(labels.shape) < 0.4
    ignored[0] |= bool(empty)
    labels = labels.where(~ignored, torch.tensor(IGNORED, dtype=torch.uint8))
    expected = closed_form(logits, labels, batch_dice)
    for name, value in zip(("dice", "cross_entropy", "focal"), expected, strict=True):
        found = ignoring(**{name: 1.0}, batch_dice=batch_dice)(logits, labels)
        torch.testing.assert_close(found, value)
        (gradient,) = torch.autograd.grad(found, logits)
        assert not gradient.movedim(1, -1)[ignored].any()
        assert gradient.movedim(1, -1)[~ignored].any(-1).all()
        (peer,) = torch.autograd.grad(value, logits, retain_graph=True)
        torch.testing.assert_close(gradient, peer)


def test_deep_supervision_leaves_out_ignored_voxels_at_every_resolution():
    torch.manual_seed(0)
    logits = [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)]
    labels = torch.randint(0, 4, (2, 8, 8), dtype=torch.uint8)
    labels[:, :, 4:] = IGNORED
    parts = ((logits[0][..., :4], labels[..., :4]), (logits[1][..., :2], labels[:, ::2, :4:2]))
    plain = loss(dice=1.0, cross_entropy=1.0)
    expected = sum(share * plain(*part) for share, part in zip((2 / 3, 1 / 3), parts, strict=True))
    torch.testing.assert_close(ignoring(dice=1.0, cross_entropy=1.0)(logits, labels), expected)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_where_nothing_is_labelled_the_loss_and_its_gradient_are_zero(batch, batch_dice):
    logits, labels = batch
    logits.requires_grad_()
    terms = {"dice": 1.0, "cross_entropy": 1.0, "focal": 1.0}
    found = ignoring(**terms, batch_dice=batch_dice)(logits, torch.full_like(labels, IGNORED))
    found.backward()
    assert found.item() == 0 and not logits.grad.any()


def test_where_all_is_labelled_nothing_changes(batch):
    terms = {"dice": 1.0, "cross_entropy": 1.0, "focal": 1.0}
    torch.testing.assert_close(ignoring(**terms)(*batch), loss(**terms)(*batch))


@pytest.mark.parametrize("batch_dice", [True, False])
def test_parts_of_a_batch_make_the_loss_of_the_whole(batch, batch_dice):
    """Two processes, one with few labelled voxels: what `total` gives each, found before and then put in."""
    logits, labels = batch
    labels = labels.clone()
    labels[0, 1:] = IGNORED
    shares = {"dice": 1.0, "cross_entropy": 1.0, "focal": 1.0, "batch_dice": batch_dice}
    asked = [[], []]
    for number in (0, 1):
        part = ignoring(**shares)
        part.total = lambda values, own=asked[number]: own.append(values) or values
        part(logits[number : number + 1], labels[number : number + 1])
    found = []
    for number in (0, 1):
        sums = iter([one + other for one, other in zip(*asked, strict=True)])
        part = ignoring(**shares)
        part.total = lambda _, sums=sums: next(sums)
        found.append(part(logits[number : number + 1], labels[number : number + 1]))
    torch.testing.assert_close(sum(found) / 2, ignoring(**shares)(logits, labels))


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize(("false", "missed"), [(0.3, 0.7), (0.8, 0.2)])
def test_tversky_is_monais(batch, batch_dice, false, missed):
    from monai.losses import TverskyLoss

    logits, labels = batch
    named = {"softmax": True, "to_onehot_y": True, "include_background": False}
    named |= {"smooth_nr": 5e-6, "smooth_dr": 5e-6, "batch": batch_dice}
    peer = TverskyLoss(alpha=false, beta=missed, **named)
    ours = loss(tversky=1.0, tversky_false=false, tversky_missed=missed, batch_dice=batch_dice)
    torch.testing.assert_close(ours(logits, labels), peer(logits, labels[:, None].long()))


def test_tversky_of_halves_is_dice(batch):
    halves = loss(tversky=1.0, tversky_false=0.5, tversky_missed=0.5)
    torch.testing.assert_close(halves(*batch), loss(dice=1.0)(*batch))


def test_tversky_without_weights_is_refused():
    with pytest.raises(ValueError, match="tversky_false, tversky_missed: expected one"):
        Loss(tversky=1.0, tversky_false=0, tversky_missed=0)
