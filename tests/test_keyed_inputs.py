"""Which example comes when: by seed and number alone, wherever a run starts and however many workers there are."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory
from scipy import stats

from keras_nonlocal import errors
from keras_nonlocal.tfm import experiments  # noqa: F401  (registers them)
from keras_nonlocal.tfm.inputs import keyed

RECORDS = 10


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ten records, 0 to 9, in three files of 4, 0 and 6."""
    folder = tmp_path_factory.mktemp("keyed")
    for name, numbers in (("a", range(4)), ("b", ()), ("c", range(4, RECORDS))):
        with tf.io.TFRecordWriter(f"{folder}/{name}.tfrecord") as writer:
            for number in numbers:
                writer.write(str(number) * (number + 1))
    return f"{folder}/*.tfrecord"


def config(files, batch=4, **more):
    return cfg.DataConfig(**{"input_path": files, "global_batch_size": batch, "is_training": True, "seed": 3, **more})


def parse(record, seed):
    return tf.strings.to_number(tf.strings.substr(record, 0, 1), tf.int64), seed


def contexts(pipelines, replicas):
    return [tf.distribute.InputContext(pipelines, pipeline, replicas) for pipeline in range(pipelines)]


def dataset(params, *arguments, **more):
    return keyed.dataset(params, keyed.RecordFiles(params.input_path), *arguments, **more)


def read(params, batches=None, **more):
    """Records and seeds of each batch."""
    read = dataset(params, parse, **more)
    return [
        (record.tolist(), seed.tolist())
        for record, seed in (read.take(batches) if batches else read).as_numpy_iterator()
    ]


def orders(count, epochs, seed, place=None):
    """The records of all places of each epoch, or of one: (epochs, count) or (epochs,)."""
    numbers = (
        tf.data.Dataset.range(epochs * count)
        if place is None
        else tf.data.Dataset.range(epochs).map(lambda epoch: epoch * count + place)
    )
    shuffled = numbers.map(lambda number: keyed.shuffled(number, count, seed))
    found = np.array(list(shuffled.as_numpy_iterator()))
    return found.reshape(epochs, count) if place is None else found


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_every_epoch_is_a_permutation(count):
    assert (np.sort(orders(count, 4, 0)) == np.arange(count)).all()


def test_epochs_and_seeds_have_orders_of_their_own():
    every = np.concatenate([orders(50, 3, seed) for seed in (0, 1, -1, 2**32, 2**40 + 1)])
    assert len({tuple(order) for order in every}) == len(every)
    correlations = np.corrcoef([*every, np.arange(50)])
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.6


def test_every_record_is_anywhere_and_any_other_one_follows_it():
    """The shuffle alone, with epochs as its keys, puts records into a third of the places they should be in."""
    count, epochs = 8, 1500
    first, second, last = (orders(count, epochs, 0, place) for place in (0, 1, count - 1))
    for found, values in (
        (first, count),
        ((second - first) % count - 1, count - 1),
        ((last - first) % count - 1, count - 1),
    ):
        assert stats.chisquare(np.bincount(found, minlength=values)).pvalue > 1e-3
    # Nor does the next epoch tell anything of this one.
    assert stats.chisquare(np.bincount((first[1:] - first[:-1]) % count, minlength=count)).pvalue > 1e-3


def test_training_reads_epoch_after_epoch(files):
    batches = read(config(files), 5)
    records, seeds = (sum((batch[part] for batch in batches), []) for part in (0, 1))
    assert records == orders(RECORDS, 2, 3).ravel().tolist()
    assert seeds == [[3, number] for number in range(20)]


def test_a_run_goes_on_where_it_would_have_been(files):
    whole = read(config(files), 12)
    for step in (1, 7, 11):
        assert read(config(files), 12 - step, first_step=step) == whole[step:]
    # Far on at once: an epoch of 10 has 2.5 steps.
    ((_, seeds),) = read(config(files), 1, first_step=10**12)
    assert seeds[0] == [3, 4 * 10**12]


@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_many_workers_see_the_batches_of_one(files, pipelines, replicas):
    steps, first = 3, 2
    expected = read(config(files, 8), steps, first_step=first)
    local = replicas // pipelines
    shares = [
        read(config(files, 8), steps * local, context=context, first_step=first)
        for context in contexts(pipelines, replicas)
    ]
    for step, (records, seeds) in enumerate(expected):
        of_replicas = [batch for share in shares for batch in share[step * local : (step + 1) * local]]
        assert [len(batch[0]) for batch in of_replicas] == [8 // replicas] * replicas
        assert sum((batch[0] for batch in of_replicas), []) == records
        assert sum((batch[1] for batch in of_replicas), []) == seeds


def test_replicas_of_a_strategy_see_their_rows(files, two_replicas):
    params = config(files)
    distributed = two_replicas.distribute_datasets_from_function(lambda context: dataset(params, parse, context))
    for (records, _), (expected, _) in zip(distributed, read(params, 3), strict=False):
        assert [part.numpy().tolist() for part in records.values] == [expected[:2], expected[2:]]


@pytest.mark.parametrize(
    ("pipelines", "drop_remainder", "expected"),
    [
        (1, False, [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]]),
        (2, False, [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7]]]),
        (4, False, [[[0], [4], [8]], [[1], [5], [9]], [[2], [6]], [[3], [7]]]),
        (2, True, [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]),
    ],
)
def test_tests_read_every_record_once_in_order(files, pipelines, drop_remainder, expected):
    params = config(files, is_training=False, drop_remainder=drop_remainder)
    for _ in range(2):  # each evaluation anew, wherever training began
        found = [read(params, context=context, first_step=5) for context in contexts(pipelines, pipelines)]
        assert [[records for records, _ in share] for share in found] == expected


def test_a_test_on_a_strategy_sees_every_record_once(files, two_replicas):
    params = config(files, is_training=False, drop_remainder=False)
    distributed = two_replicas.distribute_datasets_from_function(lambda context: dataset(params, parse, context))
    rows = [part.numpy() for records, _ in distributed for part in two_replicas.experimental_local_results(records)]
    assert np.concatenate(rows).tolist() == list(range(RECORDS))


def test_examples_in_memory_are_made_once(files):
    """In the order of those that are not, but what is random about one is drawn by its record."""
    for training in (True, False):
        params = config(files, is_training=training, drop_remainder=False)
        kept = read(params.replace(cache=True), 3, first_step=2)
        assert [records for records, _ in kept] == [records for records, _ in read(params, 3, first_step=2)]
        assert all(seeds == [[3, record] for record in records] for records, seeds in kept)


def test_no_seed_is_zero(files):
    assert read(config(files, seed=None), 3) == read(config(files, seed=0), 3) != read(config(files), 3)


def test_batches_have_one_size(files):
    for params in (config(files), config(files, is_training=False)):
        record, seed = dataset(params, parse).element_spec
        assert record.shape == [4] and seed.shape == [4, 2]


@pytest.mark.parametrize(
    ("change", "replicas", "message"),
    [
        ({"global_batch_size": 6}, 4, "global_batch_size must be a multiple of the number of replicas, 4. .*=6"),
        ({"global_batch_size": 0}, 1, "global_batch_size must be a multiple .*=0"),
        ({"input_path": "no/such/*"}, 1, "input_path must match files: no/such/\\* does not match"),
        ({"input_path": "no/such.tfrecord"}, 1, "no/such.tfrecord cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(files, change, replicas, message):
    with pytest.raises(errors.UserError, match=message):
        dataset(config(files).replace(**change), parse, contexts(1, replicas)[0])


def test_files_without_records_are_refused(tmp_path):
    tf.io.TFRecordWriter(f"{tmp_path}/empty.tfrecord").close()
    with pytest.raises(errors.UserError, match="input_path hold no record. Received: .*empty.tfrecord"):
        dataset(config(f"{tmp_path}/empty.tfrecord"), parse)


def test_damaged_data_are_not_given(tmp_path):
    path = f"{tmp_path}/bad.tfrecord"
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(4):
            writer.write(b"1234")
    content = bytearray(open(path, "rb").read())
    content[2 * 20 + 13] ^= 1  # in the data of the third one
    open(path, "wb").write(content)
    with tf.io.TFRecordWriter(f"{tmp_path}/also.tfrecord") as writer:
        for _ in range(4):
            writer.write(b"1234")
    both = f"{tmp_path}/*.tfrecord"
    with pytest.raises(tf.errors.DataLossError, match="corrupted record at 52") as caught:
        read(config(both), 2)
    assert keyed.damaged_file(both, caught.value) == path
    assert keyed.damaged_file(f"{tmp_path}/also.tfrecord", caught.value) is None
    with pytest.raises(tf.errors.DataLossError, match="corrupted record at 52"):
        dataset(config(both, cache=True), parse)


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_device_gets_to_train_is_of_one_shape_and_no_text(count, cache, tmp_path):
    """TPUs take nothing else."""
    example = tf.train.SequenceExample()
    example.context.feature["clip/label/index"].int64_list.value.append(1)
    frame = tf.io.encode_jpeg(np.zeros((40, 50, 3), np.uint8)).numpy()
    example.feature_lists.feature_list["image/encoded"].feature.add().bytes_list.value.append(frame)
    with tf.io.TFRecordWriter(f"{tmp_path}/a.tfrecord") as writer:
        writer.write(example.SerializeToString())
    for name in ("non_local_c2d_kinetics400", "paper_nl_i3d_r101_5_charades"):
        config = exp_factory.get_exp_config(name).task
        config.train_data.override({"input_path": f"{tmp_path}/a.tfrecord", "global_batch_size": 6, "cache": cache})
        config.train_data.override({"feature_shape": (4, 16, 16, 3), "min_image_size": 16, "max_image_size": 20})
        task = task_factory.get_task(config)
        for context in contexts(count, 3):
            spec = tf.nest.flatten(task.build_inputs(config.train_data, context).element_spec)
            assert len(spec) == 2
            for each in spec:
                assert each.shape.is_fully_defined() and each.shape[0] == 2 and each.dtype.is_floating, each
