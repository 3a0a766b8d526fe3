"""The figures that `plot` draws into. Imported with the first of them, since it needs matplotlib."""

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that a notebook shows when it ends a cell, as one of pyplot."""

    def _repr_png_(self):
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
