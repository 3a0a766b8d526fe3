"""Advice on where blocks go: the paper's places in its networks, and costs that the model with the blocks then has."""

import re

import pytest
from blocks import FLAVOURS

import keras_nonlocal
from keras_nonlocal import models, paper
from keras_nonlocal.analysis import blocks, cost
from keras_nonlocal.surgery import functional

flavours = pytest.mark.parametrize("flavour", FLAVOURS)


def stages(flavour, size=None, counts=(1, 2, 3, 1)):
    """A small ResNet inside another model: stages of convolution, norm, sum and activation."""
    package = FLAVOURS[flavour].keras
    layers = package.layers
    image = package.Input((None, None, 8))
    x = image
    for stage, count in enumerate(counts, 2):
        for block in range(count):
            stride = 1 if block else 2
            y = layers.Conv2D(8, 3, stride, padding="same")(x)
            y = layers.BatchNormalization()(y)
            short = layers.Conv2D(8, 1, stride)(x) if stride == 2 else x
            x = layers.ReLU(name=f"res{stage}_{block}")(layers.Add()([y, short]))
    backbone = package.Model(image, x, name="backbone")
    image = package.Input((size, size, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(layers.Rescaling(1 / 255)(image))
    x = layers.GlobalAveragePooling2D()(backbone(x))
    return package.Model(image, layers.Dense(3)(x))


def places_of_the_paper(depth, name):
    """The layers that the blocks of a row of the paper's tables follow."""
    model = models.C2D(depth, (4, 64, 64, 3), width=2, non_local=paper.NETWORKS[name].non_local)
    behind = {id(call.layer): functional.input_name(call.inputs[0]) for call in functional.calls(model)}
    return [behind[id(block)] for block in blocks.paths(model).values()]


@pytest.mark.slow
def test_the_papers_network_gets_the_papers_places():
    advice = keras_nonlocal.advise(models.C2D(50, (4, 64, 64, 3), width=2))
    assert [advice.one] == places_of_the_paper(50, "nl_c2d_r50_1")
    assert list(advice.five) == places_of_the_paper(50, "nl_c2d_r50_5")


@pytest.mark.slow
def test_the_papers_deeper_network_gets_the_papers_places():
    advice = keras_nonlocal.advise(models.C2D(101, (4, 64, 64, 3), width=2))
    assert [advice.one] == places_of_the_paper(101, "nl_c2d_r101_1")
    assert list(advice.five) == places_of_the_paper(101, "nl_c2d_r101_5")


@flavours
def test_costs_are_those_of_the_model_with_the_blocks(flavour):
    model = stages(flavour, 48)
    advice = keras_nonlocal.advise(model, pairwise="dot_product")
    plain = advice.model
    for chosen in ([advice.one], list(advice.five)):
        after = keras_nonlocal.insert(model, chosen, pairwise="dot_product")
        found, spots = cost.cost(after), [spot for spot in advice.spots if spot.path in chosen]
        assert len(spots) == len(chosen)
        for key in ("parameters", "multiply_adds", "operations", "weights"):
            assert getattr(found, key) - getattr(plain, key) == sum(getattr(spot.added, key) for spot in spots), key
    # What the block at the largest maps holds decides what the whole model does.
    first = advice.spots[0]
    after = keras_nonlocal.insert(model, first.path, pairwise="dot_product")
    assert cost.cost(after).activation_bytes == first.added.activation_bytes


@flavours
def test_spots_are_the_ends_of_blocks(flavour):
    advice = keras_nonlocal.advise(stages(flavour), (48, 48, 3), measure=True)
    counts = {2: 1, 3: 2, 4: 3, 5: 1}
    names = [f"backbone/res{stage}_{block}" for stage, count in counts.items() for block in range(count)]
    assert [spot.path for spot in advice.spots] == ["stem", *names]
    assert [spot.shape for spot in advice.spots][1::2] == [(24, 24, 8), (12, 12, 8), (6, 6, 8), (3, 3, 8)]
    assert advice.one == "backbone/res4_1"
    assert advice.five == ("backbone/res3_1", "backbone/res4_1")
    assert all(0 < spot.seconds < 60 for spot in advice.spots)
    lines = str(advice).splitlines()
    assert lines[0].split() == ["after", "gives", "parameters", "multiply-adds", "activations", "time"]
    assert re.fullmatch(r"1 5 +backbone/res4_1 +6 x 6 x 8 +164 +0\.0 M +0\.0 MiB +[\d.]+ ms", lines[6]), lines
    assert "the last (res5, here that of 3 x 3)" in lines[-1]


@flavours
def test_networks_without_residual_blocks(flavour):
    package = FLAVOURS[flavour].keras
    layers = package.layers
    chain = [package.Input((32, 32, 3))]
    for stage in range(3):
        chain += [layers.Conv2D(4, 3, padding="same", activation="relu", name=f"a{stage}")]
        chain += [layers.Conv2D(4, 3, padding="same", name=f"b{stage}"), layers.ReLU(name=f"c{stage}")]
        chain += [layers.MaxPooling2D(name=f"pool{stage}")]
    advice = keras_nonlocal.advise(package.Sequential([*chain, layers.GlobalAveragePooling2D(), layers.Dense(2)]))
    paths = [spot.path for spot in advice.spots]
    assert paths == ["a0", "c0", "pool0", "a1", "c1", "pool1", "a2", "c2", "pool2"]
    assert (advice.one, advice.five) == ("a2", ("a1", "a2"))


@flavours
def test_sequences_and_several_inputs(flavour):
    """What another input brings in parallel is no passage; of sequences the sizes are lengths."""
    package = FLAVOURS[flavour].keras
    layers = package.layers
    words, sound = package.Input((None, 4), name="words"), package.Input((None, 4), name="sound")
    x = layers.Conv1D(4, 3, padding="same", name="first")(words)
    x = layers.Add(name="met")([x, layers.Conv1D(4, 3, padding="same", name="second")(sound)])
    for name in ("third", "fourth"):
        x = layers.Conv1D(4, 3, padding="same", name=name)(x)
    model = package.Model([words, sound], x)
    advice = keras_nonlocal.advise(model, [(12, 4), (12, 4)])
    assert cost.cost(model, [(12, 4), (12, 4)]) == advice.model
    assert [spot.path for spot in advice.spots] == ["met", "third", "fourth"]
    assert [spot.shape for spot in advice.spots] == [(12, 4)] * 3
    assert "All maps have one size, 12" in advice.why


@flavours
def test_what_cannot_be_advised(flavour):
    package = FLAVOURS[flavour].keras
    with pytest.raises(ValueError, match="`input_shape` must say every size"):
        keras_nonlocal.advise(stages(flavour))
    flat = package.Sequential([package.Input((6,)), package.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must have layers that everything passes through"):
        keras_nonlocal.advise(flat)
    with pytest.raises(ValueError, match="`pairwise` must be one of"):
        keras_nonlocal.advise(stages(flavour), (48, 48, 3), pairwise="gauss")
    # Where the keys cannot be pooled there is no spot.
    spots = keras_nonlocal.advise(stages(flavour), (32, 32, 3), pool_size=4).spots
    assert min(spot.shape[0] for spot in spots) == 4
