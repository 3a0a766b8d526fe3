"""The blocks that are measured: shapes, forms, contestants, and the bars that the figures have to reach."""

import math
import typing

from report import Bar, ratio
from side_by_side import Contestant

OURS, DENSE, BFLOAT16 = "ours", "ours, dense", "ours, bfloat16"
NAIVE, ASSOCIATED = "torch, naive", "torch, associated"
SDPA_CONV, SDPA_LINEAR = "torch, SDPA (convolutions)", "torch, SDPA (linear)"
SDPA = (SDPA_CONV, SDPA_LINEAR)
OUR_DOT_PRODUCT = "ours, dot_product"
MODES = ("forward", "train")


class Shape(typing.NamedTuple):
    positions: tuple
    channels: int
    pool: tuple | None = None

    @property
    def inner(self):
        return self.channels // 2

    @property
    def queries(self):
        return math.prod(self.positions)

    @property
    def keys(self):
        return self.queries // math.prod(self.pool or [1])

    def __str__(self):
        pooled = f", keys pooled by {self.pool}" if self.pool else ""
        return f"{' x '.join(map(str, self.positions))}, C = {self.channels}, C' = {self.inner}{pooled}"


# Feature maps of the paper's networks: res3 and res4 of 8-frame clips and res3 of 128-frame ones, res4 of Mask R-CNN on
# an 800 x 1344 image; then a larger map and a sequence.
SHAPES = {
    "res3": Shape((4, 28, 28), 512),
    "res3_pooled": Shape((4, 28, 28), 512, (1, 2, 2)),
    "res4": Shape((4, 14, 14), 1024),
    "res3_long": Shape((16, 28, 28), 512),
    "detection": Shape((50, 84), 1024),
    "large": Shape((100, 168), 256),
    "sequence": Shape((4096,), 256),
}
FORMS = ("embedded_gaussian", "dot_product", "concatenation")
CASES = [*(f"{shape}/{form}" for form in FORMS for shape in SHAPES), "res3/gaussian"]
# To try the harness; not one of "all".
SHAPES["tiny"] = Shape((64,), 16)
TINY_CASES = [f"tiny/{form}" for form in (*FORMS, "gaussian")]
IN_BFLOAT16 = ("res3", "detection", "large")
MATMULS = ((2048, 2048, 2048), (4096, 4096, 4096), (4200, 512, 4200))


def matching(words):
    """The cases that words name: "all", a shape, a form, or shape/form. Raises ValueError for one that names none."""
    chosen = []
    for word in words:
        cases = [case for case in CASES if word in ("all", case, *case.split("/"))]
        cases += [case for case in TINY_CASES if word in (case, "tiny")]
        if not cases:
            raise ValueError(f"--cases: no case is called {word!r}. There are {', '.join([*CASES, *TINY_CASES])}")
        chosen += cases
    return list(dict.fromkeys(chosen))


def contestants(case, mode):
    """The contestants of a case, "shape/form", in a mode; ours is the first."""
    name, form = case.split("/")
    shape = SHAPES[name]
    arguments = dict(
        mode=mode, pairwise=form, positions=shape.positions, channels=shape.channels, inner=shape.inner, pool=shape.pool
    )

    # Where two keys of a window are equal but for rounding, another one is the largest, and gets the gradient: one such
    # window in 200 000 is 3e-3 of a gradient's rms.
    exact = 0.02 if shape.pool and mode == "train" else 1e-3

    def ours(name, tolerance=exact, **more):
        return Contestant(name, "keras_blocks", "Block", arguments | more, tolerance)

    def torch(name, tolerance=exact, **more):
        return Contestant(name, "torch_blocks", "Block", arguments | more, tolerance)

    found = [ours(OURS), ours(DENSE, implementation="dense")]
    if form in ("embedded_gaussian", "gaussian"):
        found += [
            torch(NAIVE),
            torch(SDPA_CONV, order="sdpa", layout="channels_last"),
            torch(SDPA_LINEAR, order="sdpa", layout="linear"),
        ]
    elif form == "dot_product":
        found += [torch(NAIVE), torch(ASSOCIATED, order="associated", layout="channels_last")]
    elif case == "res4/concatenation" and mode == "forward":
        found.append(torch(NAIVE))  # 7 GB; in every other case more than a machine of 24 GB has
    if form == "embedded_gaussian" and mode == "forward" and name in IN_BFLOAT16:
        half = dict(tolerance=0.05, dtype="bfloat16")
        found += [
            ours(BFLOAT16, **half),
            torch(f"{NAIVE}, bfloat16", **half),
            torch(f"{SDPA_CONV}, bfloat16", order="sdpa", layout="channels_last", **half),
        ]
    if (case, mode) == MATMUL_CASE:
        found += [_matmul(*sizes, framework) for framework in ("tf", "torch") for sizes in MATMULS]
    if case == "large/concatenation" and mode == "train":
        found.append(ours(OUR_DOT_PRODUCT, tolerance=None, pairwise="dot_product"))
    return found


def blocks_only(contestants):
    """Those that compute the case's function, for which memory is comparable."""
    return [contestant for contestant in contestants if contestant.tolerance is not None]


def _matmul(m, k, n, framework="tf"):
    module = {"tf": "keras_blocks", "torch": "torch_blocks"}[framework]
    return Contestant(f"{framework}.matmul {m} x {k} x {n}", module, "Matmul", dict(m=m, k=k, n=n), None)


def necessary_flops(case, mode):
    """Of the matrix products that a case takes by the fewest operations; a multiply-add is two.

    Of embedded_gaussian these are four projections, phi and g before they are pooled, theta phi^T and its product with
    g; of dot_product three projections, phi^T g and theta times that with W_z. Training has two more products for each.

    Returns:
      An int, or None for the other forms.
    """
    name, form = case.split("/")
    shape = SHAPES[name]
    projections = 4 * shape.queries * shape.channels * shape.inner
    if form == "embedded_gaussian":
        products = projections + 2 * shape.queries * shape.keys * shape.inner
    elif form == "dot_product":
        products = projections + shape.keys * shape.inner**2
    else:
        return None
    return 2 * products * (3 if mode == "train" else 1)


# Where tf.matmul runs along.
MATMUL_CASE = ("detection/embedded_gaussian", "forward")
NEEDS = ["bar", "GFLOP", "ms at the peak", "ours, ms", "of the peak", "asked, ms", "of the peak"]

# (form, mode, peers of which the fastest counts, {shape: how many times ours}).
TIME_BARS = [
    ("embedded_gaussian", "forward", (NAIVE,),
     {"res3": 2.2, "detection": 2.0, "sequence": 2.8, "large": 2.7, "res3_pooled": 1.7, "res4": 1.25}),
    ("embedded_gaussian", "forward", SDPA, {"res3": 1.6, "large": 1.5, "res4": 1.1}),
    ("embedded_gaussian", "train", (NAIVE,), {"res3": 1.9, "sequence": 2.4, "large": 2.3, "res4": 1.25}),
    ("dot_product", "forward", (NAIVE,), {"res3": 6, "sequence": 12, "large": 50}),
    ("dot_product", "train", (NAIVE,), {"res3": 6.5}),
    ("dot_product", "forward", (ASSOCIATED,), {"res3": 1.5}),
    ("concatenation", "forward", (NAIVE,), {"res4": 100}),
    ("concatenation", "train", (DENSE,), {"large": 10}),
]  # fmt: skip

# (form, mode, peers of which the smallest counts, at most this percentage of it), all at `large`.
MEMORY_BARS = [
    ("embedded_gaussian", "forward", (DENSE,), 6),
    ("embedded_gaussian", "train", (DENSE,), 6),
    ("embedded_gaussian", "train", SDPA, 100),
    ("dot_product", "forward", (DENSE,), 5),
    ("dot_product", "train", (DENSE,), 5),
    ("concatenation", "forward", (DENSE,), 6),
    ("concatenation", "train", (DENSE,), 6),
]


def time_bars(races):
    """Bars over {(case, mode): Race}."""
    found = []

    def add(case, mode, what, relation, asked, unit, figure):
        race = races.get((case, mode))
        reached, one_core = (figure(race), race.one_core) if race else (None, False)
        found.append(Bar(f"{case} {mode}: {what}", relation, asked, unit, reached, one_core))

    for form, mode, peers, shapes in TIME_BARS:
        for shape, asked in shapes.items():
            add(
                f"{shape}/{form}", mode, f"{' or '.join(peers)} / ours", ">=", asked, "x",
                lambda race, peers=peers: ratio(race.median(*peers), race.median(OURS)),
            )  # fmt: skip
    add(
        "large/concatenation", "train", "ours / our dot_product", "<=", 1.3, "x",
        lambda race: ratio(race.median(OURS), race.median(OUR_DOT_PRODUCT)),
    )  # fmt: skip
    for shape in IN_BFLOAT16:
        add(
            f"{shape}/embedded_gaussian", "forward", "ours / ours in bfloat16", ">=", 1.6, "x",
            lambda race: ratio(race.median(OURS), race.median(BFLOAT16)),
        )  # fmt: skip
    add("detection/embedded_gaussian", "forward", "of tf.matmul's peak", ">=", 70, " %", fraction_of_peak)
    return found


def peak(race):
    """The most operations a second of tf.matmul in the detection case, or None."""
    seconds = {sizes: race.median(_matmul(*sizes).name) for sizes in MATMULS}
    return max((2 * math.prod(sizes) / value for sizes, value in seconds.items() if value), default=None)


def fraction_of_peak(race):
    """Percentage of the peak that the detection case reaches, or None."""
    ours, most = race.median(OURS), peak(race)
    return necessary_flops(*MATMUL_CASE) / ours / most * 100 if ours and most else None


def needs(races):
    """What the bars against peers need of TensorFlow's matrix products, as rows of the columns NEEDS.

    Args:
      races: {(case, mode): Race}.
    """
    most = peak(races[MATMUL_CASE]) if MATMUL_CASE in races else None
    rows = []
    for form, mode, peers, shapes in TIME_BARS:
        for shape, asked in shapes.items():
            case = f"{shape}/{form}"
            race, flops = races.get((case, mode)), necessary_flops(case, mode)
            ours, theirs = (race.median(OURS), race.median(*peers)) if race else (None, None)
            if most and flops and ours and theirs:
                needed = theirs / asked
                rows.append([
                    f"{case} {mode} against {' or '.join(peers)}", f"{flops / 1e9:.1f}", f"{flops / most * 1e3:.1f}",
                    f"{ours * 1e3:.1f}", f"{flops / ours / most:.0%}", f"{needed * 1e3:.1f}",
                    f"{flops / needed / most:.0%}",
                ])  # fmt: skip
    return rows


def memory_bars(peaks):
    """Bars over {(case, mode): {contestant's name: MiB}}."""
    found = []
    for form, mode, peers, asked in MEMORY_BARS:
        mib = peaks.get((f"large/{form}", mode), {})
        numbers = [mib[name] for name in peers if isinstance(mib.get(name), float)]
        reached = ratio(mib.get(OURS), min(numbers, default=None), percent=True)
        found.append(Bar(f"large/{form} {mode}: memory of {' or '.join(peers)}", "<=", asked, " %", reached))
    return found
