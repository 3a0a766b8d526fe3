"""From the scores of every video to the result of a test: NumPy alone, no network."""

from keras_nonlocal.tfm.scoring import many_labels, one_label

# By the name that a task's answers and a file of predictions give.
SCORINGS = {"one_label": one_label.score, "many_labels": many_labels.score}
