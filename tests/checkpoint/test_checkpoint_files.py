"""Files that are refused, and in which words."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from checkpoint_tools import FLOATS, assert_refused, safetensors_bytes, torch_bytes, zip_bytes

from torchwise.checkpoint import load, save

PROTOCOL = pickle.PROTO + b"\x02"
MAIN = ("a/data.pkl", PROTOCOL + pickle.NONE + pickle.STOP)

WHOLE = torch_bytes({"a": torch.arange(4.0)})
FILES = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "does not start like a zip file"),
    "legacy": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "its pickle ends in the middle"),
    "tar": (b"\0" * 257 + b"ustar" + b"\0" * 50, "oldest format, a tar file; load it in torch"),
    "truncated": (WHOLE[:-30], "damaged zip file"),
    "damaged_pickle": (WHOLE.replace(b"X\x01\0\0\0a", b"X\x01\0\0\0b"), "checksum of data.pkl"),
    "moved": (b"PK\x03\x04" + WHOLE, "bytes before its first"),
    "compressed": (zip_bytes([MAIN], zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "two_folders": (zip_bytes([MAIN, ("b/x", b"")]), "not in one folder"),
    "no_folder": (zip_bytes([("data.pkl", b"")]), "not in one folder"),
    "policy": (
        zip_bytes([("data", b"{}"), ("policy.pth", WHOLE), ("pytorch_variables.pth", WHOLE)]),
        "zip file with checkpoints inside: unzip it, and load its members, as 'policy.pth'",
    ),
    "other_zip": (zip_bytes([("word/document.xml", b"")]), "is a zip file, but none of torch.save"),
    "empty_zip": (b"PK\x03\x04" + bytes(60), "damaged zip file"),
    "pickle": (b"\x80\x04N.", "is a pickle that torch.save did not write"),
    "gzip": (b"\x1f\x8b" + bytes(30), "is compressed by gzip"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(30), "is an HDF5 file"),
    "numpy": (b"\x93NUMPY" + bytes(30), r"numpy.load\(path\) reads it"),
    "no_members": (b"PK\x05\x06" + bytes(18), "does not start like a zip file"),
    "no_pickle": (zip_bytes([("a/version", b"3")]), "has a member data.pkl; it holds 'a/version'"),
    "big_endian": (zip_bytes([MAIN, ("a/byteorder", b"big")]), "big-endian"),
    "script": (zip_bytes([MAIN, ("a/constants.pkl", b"")]), "TorchScript"),
    "protocol": (zip_bytes([("a/data.pkl", b"\x80\x06N.")]), "protocol 2"),
    "unended": (zip_bytes([("a/data.pkl", PROTOCOL + b"N")]), "middle of an instruction"),
}

ENTRY = '"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'


def structured(structure):
    return "{" + ENTRY + ',"__metadata__":' + json.dumps({"torchwise.structure": structure}) + "}"


HEADERS = {
    "list": ("[]", "header is not a JSON object"),
    "cut": ('{"a"', "broken JSON"),
    "deep": ('{"a":' + "[" * 100_000, "nests too deeply"),
    "twice": ("{" + ENTRY + "," + ENTRY + "}", "one key twice"),
    "nan": ('{"a":NaN}', "NaN in its header"),
    "digits": ('{"a":' + "9" * 5000 + "}", "integer that is too long"),
    "fields": ('{"a":{"dtype":"F32","shape":[4]}}', "by something else than"),
    "more_fields": ("{" + ENTRY[:-1] + ',"x":1}}', "by something else than"),
    "dtype": ("{" + ENTRY.replace("F32", "F4") + "}", "dtype 'F4', which numpy cannot hold"),
    "dtype_list": ("{" + ENTRY.replace('"F32"', "[]") + "}", r"dtype \[\]"),
    "negative": ("{" + ENTRY.replace("[4]", "[-4]") + "}", "no sizes"),
    "float": ("{" + ENTRY.replace("[4]", "[4.0]") + "}", "no sizes"),
    "boolean": ("{" + ENTRY.replace("[4]", "[true,4]") + "}", "no sizes"),
    "offsets": ("{" + ENTRY.replace("[0,16]", "[16]") + "}", "1 offsets"),
    "backwards": ("{" + ENTRY.replace("[0,16]", "[16,0]") + "}", "in -16 bytes"),
    "size": ("{" + ENTRY.replace("[4]", "[5]") + "}", "dtype F32 in 16 bytes"),
    "overflow": ("{" + ENTRY.replace("[4]", f"[{2**62},4]") + "}", "dtype F32 in 16 bytes"),
    "empty_huge": (
        "{" + ENTRY.replace("[4]", f"[{2**62},0]").replace("16]", "0]") + "}",
        "overlap or leave|16 bytes of tensors",
    ),
    "hole": ("{" + ENTRY.replace("[0,16]", "[4,20]") + "}", "leave a hole at byte 0"),
    "overlap": ("{" + ENTRY + "," + ENTRY.replace('"a"', '"b"') + "}", "overlap"),
    "rest": ("{" + ENTRY.replace("[4]", "[3]").replace("16]", "12]") + "}", "describes 12"),
    "metadata": ("{" + ENTRY + ',"__metadata__":{"a":1}}', "JSON object of strings"),
    "structure_json": (structured("{"), "broken JSON"),
    "structure_kind": (structured('{"call":[]}'), "unknown part {'call': "),
    "structure_two": (structured('{"dict":[],"tuple":[]}'), "unknown part"),
    "structure_tensor": (structured('{"tensor":"b"}'), "unknown tensor 'b'"),
    "structure_forgets": (structured("[]"), "does not mention"),
    "structure_item": (structured('{"dict":[[1]]}'), r"the item \[1\]"),
    "structure_key": (structured('{"dict":[[[],1]]}'), r"the key \[\]"),
    "structure_twice": (structured('{"dict":[[1,1],[1,2]]}'), "the key 1"),
    "structure_deep": (structured("[" * 150 + '{"tensor":"a"}' + "]" * 150), "100 deep"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_whole(tmp_path, case):
    content, words = FILES[case]
    assert_refused(tmp_path / "file.pt", content, words)


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_safetensors_that_lie(tmp_path, case):
    header, words = HEADERS[case]
    assert_refused(tmp_path / "file.safetensors", safetensors_bytes(header, FLOATS), words)


def test_headers_that_do_not_lie_are_read(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(safetensors_bytes("{" + ENTRY + "}  ", FLOATS))
    assert load(path)["a"].tolist() == [0, 1, 2, 3]
    path.write_bytes(safetensors_bytes("{}"))
    assert load(path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1234567", "shorter than its first field"),
        (b"\xff" * 8 + b"{}", "header has 18446744073709551615 bytes"),
        (b"\x03\0\0\0\0\0\0\0{}", "header has 3 bytes"),
        (b"\x02\0\0\0\0\0\0\0\xff\xff", "not a JSON object"),
        (b"\x04\0\0\0\0\0\0\0{\xff\xff}", "not UTF-8"),
    ],
)
def test_safetensors_that_are_cut(tmp_path, content, words):
    assert_refused(tmp_path / "file.safetensors", content, words)


@pytest.mark.filterwarnings("ignore")  # of the deprecation of TorchScript
def test_other_archives_of_torch_are_named(tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    words = r"is a TorchScript archive, .* torch.save\(torch.jit.load\(path\).state_dict"
    assert_refused(tmp_path / "file.pt", buffer.getvalue(), words)
    # The members of `torch.export.save`, which takes seconds; older versions have no folder.
    members = ["data/weights/model_weights_config.json", "models/model.json", "archive_format"]
    words = r"is an archive of torch.export, .* torch.save\(torch.export.load\(path\).state_dict,"
    for folder in ("a/", ""):
        content = zip_bytes([(f"{folder}{name}", b"pt2") for name in members])
        assert_refused(tmp_path / "file.pt2", content, words)


def test_members_that_occur_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = zip_bytes([MAIN, ("a/data/0", b""), ("a/data/0", b"")])
    assert_refused(tmp_path / "file.pt", content, "two zip members of one name")


def last_of(content, magic, field, value):
    """Overwrite a field of the last zip header that starts with a magic."""
    start = content.rindex(magic) + field
    return content[:start] + value + content[start + len(value) :]


@pytest.mark.parametrize(
    ("magic", "field", "value", "words"),
    [
        (b"PK\x03\x04", 0, b"PK\x03\x05", "'a/data/0' is not in its place"),
        (b"PK\x03\x04", 30, b"b", "'a/data/0' is not in its place"),
        (b"PK\x03\x04", 6, b"\x01", "compressed or encrypted member 'a/data/0'"),
        (b"PK\x01\x02", 20, b"\x60\0\0\0\x60\x10\0\0", "'a/data/0' is cut off"),
        (b"PK\x01\x02", 20, b"\xf0\0\0\0\xf0\0\0\0", "'a/data/0' is cut off"),
        (b"PK\x01\x02", 42, b"\xf0\xff\xff\0", "'a/data/0' is outside"),
        (b"PK\x01\x02", 46, b"\xff", "damaged zip file|one folder"),
    ],
)
def test_headers_of_zip_members_that_disagree(tmp_path, magic, field, value, words):
    content = zip_bytes([MAIN, ("a/data/0", FLOATS)])
    assert_refused(tmp_path / "file.pt", last_of(content, magic, field, value), words)


def test_members_that_overlap(tmp_path):
    content = bytearray(zip_bytes([MAIN, ("a/data/0", FLOATS)]))
    size = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02")) + 20
    content[size : size + 8] = (60).to_bytes(4, "little") * 2
    assert_refused(tmp_path / "file.pt", bytes(content), "overlap")


def test_files_without_a_format(tmp_path):
    assert_refused(
        tmp_path / "file.bin", b"hello", r"is no checkpoint, .* \.pt, \.pth, \.safetensors"
    )


def test_errors_of_the_file_system_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pt")
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "missing" / "file.pt", {})
