"""What can be chosen of an export, of a training run and of any model alike."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Options:
    """What can be chosen of an export.

    Args:
      labels: a file of class names, one a line, kept beside the model as `assets.extra/labels.txt`. Default none.
      fold_norms: fold batch norms into the convolutions before them and W_z, see surgery.fold_norms, after a check that
        the network answers as before. Those of detectors and of models that are no graph never are. Default True.
      finite: refuse to answer with NaN or infinity, which over REST are no valid JSON. Default False.
      explain: with the signature `explain`, where a classifier or a model of one input has non-local blocks. Default
        True.
      explain_block: the block that it is of, by its path or name, as "res4_1_nonlocal". Default the last.
      explain_top_k: how many keys of each query it answers, at most. Default 20.
      padded: with the signature `padded`, for inputs of several sizes in one batch, of a functional model of one input:
        see padding.padded_signature. A second graph beside the other, on the same weights. Default False.
      portable: evaluate the blocks by what other engines than TensorFlow's run too, see portable.portable, and print
        what memory that takes. Default False.
      verify: refuse to publish what does not answer as the model did, and keep what it was verified by beside it, see
        verify.verify. Default True.
      batch_sizes: of the warm-up requests, the `allowed_batch_sizes` of a server that batches. Default 1.
    """

    labels: str | None = None
    fold_norms: bool = True
    finite: bool = False
    explain: bool = True
    explain_block: str | None = None
    explain_top_k: int = 20
    padded: bool = False
    portable: bool = False
    verify: bool = True
    batch_sizes: Sequence[int] = (1,)
