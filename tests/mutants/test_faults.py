"""The list of faults stays true: each can be put in, and each is run through some tests."""

import pathlib

import faults

ROOT = pathlib.Path(__file__).parents[2]


def test_each_fault_can_be_put_in():
    texts = {fault.file: (ROOT / "keras_nonlocal" / fault.file).read_text() for fault in faults.FAULTS}
    assert [fault for fault in faults.FAULTS if texts[fault.file].count(fault.old) != 1 or fault.new == fault.old] == []


def test_faults_have_names_of_their_own():
    names = {(fault.file, fault.what) for fault in faults.FAULTS}
    assert len(names) == len(faults.FAULTS)


def test_each_fault_has_tests():
    for fault in faults.FAULTS:
        assert all((ROOT / path).exists() for path in faults.tests(fault)), fault
