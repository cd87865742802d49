"""Ways to damage a checkpoint, from bit flips to hostile pickles in sound zip files."""

import io
import json
import pickle
import struct
import warnings
import zipfile

NUMBERS = [0, 1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
GLOBALS = [
    b"os\nsystem",
    b"posix\nsystem",
    b"builtins\neval",
    b"builtins\nexec",
    b"builtins\ngetattr",
    b"torch\nload",
    b"torch\nSize",
    b"torch\nfloat32",
    b"torch\ndevice",
    b"torch.storage\nUntypedStorage",
    b"torch.hub\nload",
    b"subprocess\nPopen",
    b"collections\nCounter",
    b"collections\nOrderedDict",
    b"torch._utils\n_rebuild_tensor_v3",
    b"torch._utils\n_rebuild_parameter",
    b"numpy.core.multiarray\n_reconstruct",
    b"numpy.core.multiarray\nscalar",
    b"numpy\ndtype",
    b"__builtin__\nset",
    b"__builtin__\nbytearray",
    b"_codecs\nencode",
    b"argparse\nNamespace",
    b"torch._utils\n_rebuild_sparse_tensor",
    b"torch._utils\n_rebuild_qtensor",
    b"torch._utils\n_rebuild_nested_tensor",
    b"torch._utils\n_rebuild_meta_tensor_no_storage",
    b"torch._tensor\n_rebuild_from_type_v2",
    b"torch.nested._internal.nested_tensor\n_rebuild_njt",
    b"torch.serialization\n_get_layout",
    b"torch.nn.parameter\nParameter",
]
OPCODES = sorted(
    value for key, value in vars(pickle).items() if key.isupper() and isinstance(value, bytes)
)


def mutate(generator, suffix, content, canary):
    """Return a damaged copy of a file; `canary` is what hostile code would create."""
    structural = {".safetensors": mutate_header, ".legacy": mutate_legacy}.get(suffix, mutate_zip)
    choice = generator.integers(10)
    if choice < 5:
        return structural(generator, content, canary)
    ways = [flip_bits, truncate, overwrite_number, move_block, insert_noise]
    return ways[choice - 5](generator, content)


def place(generator, content):
    return int(generator.integers(len(content) + 1))


def flip_bits(generator, content):
    damaged = bytearray(content)
    for _ in range(generator.integers(1, 9)):
        damaged[generator.integers(len(damaged))] ^= 1 << int(generator.integers(8))
    return bytes(damaged)


def truncate(generator, content):
    return content[: place(generator, content)]


def overwrite_number(generator, content):
    layout = str(generator.choice(["<H", "<I", "<Q"]))
    number = NUMBERS[generator.integers(len(NUMBERS))]
    encoded = struct.pack("<Q", number)[: struct.calcsize(layout)]
    start = place(generator, content)
    return content[:start] + encoded + content[start + len(encoded) :]


def move_block(generator, content):
    start, stop, to = sorted(place(generator, content) for _ in range(3))
    return content[:to] + content[start:stop] + content[to:]


def insert_noise(generator, content):
    start = place(generator, content)
    return content[:start] + generator.bytes(int(generator.integers(1, 40))) + content[start:]


def mutate_zip(generator, content, canary):
    """Write the zip anew, with sound checksums around damaged members."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    position = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))
    name, program = members[position]
    ways = [
        lambda: members.__setitem__(position, (name, mutate_pickle(generator, program, canary))),
        lambda: members.append(members[generator.integers(len(members))]),
        lambda: members.pop(generator.integers(len(members))),
        lambda: damage_member(generator, members),
    ]
    for _ in range(generator.integers(1, 3)):
        ways[generator.choice([0, 0, 0, 0, 1, 2, 3]) if position < len(members) else 1]()
        position = min(position, len(members) - 1)
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for member, data in members:
            archive.writestr(zipfile.ZipInfo(member), data)
    return file.getvalue()


def mutate_legacy(generator, content, _canary):
    """Damage the pickle of the value; what is before it is always as long."""
    start = content.index(b"uu.\x80\x02") + 3
    ways = [splice_opcodes, swap_global, flip_bits]
    program = content[start:-64]
    return content[:start] + ways[generator.integers(3)](generator, program) + content[-64:]


def damage_member(generator, members):
    position = generator.integers(len(members))
    name, data = members[position]
    members[position] = (
        name,
        truncate(generator, data) + generator.bytes(int(generator.integers(3))),
    )


def mutate_pickle(generator, program, canary):
    ways = [
        lambda: flip_bits(generator, program),
        lambda: overwrite_number(generator, program),
        lambda: move_block(generator, program),
        lambda: splice_opcodes(generator, program),
        lambda: swap_global(generator, program),
        lambda: bomb(generator, canary),
    ]
    return ways[generator.integers(len(ways))]()


def splice_opcodes(generator, program):
    start = place(generator, program)
    noise = b"".join(
        OPCODES[generator.integers(len(OPCODES))] + generator.bytes(int(generator.integers(2)))
        for _ in range(generator.integers(1, 6))
    )
    return program[:start] + noise + program[start:]


def swap_global(generator, program):
    """Put a hostile name in the place of one that torch writes."""
    starts = [i for i in range(len(program)) if program[i : i + 1] == pickle.GLOBAL]
    start = starts[generator.integers(len(starts))] if starts else 0
    end = program.find(b"\n", program.find(b"\n", start) + 1)
    hostile = GLOBALS[generator.integers(len(GLOBALS))]
    return program[: start + 1] + hostile + program[end:]


def bomb(generator, canary):
    """Whole programs: code, huge memos, deep nesting, references that double."""
    command = f"touch {canary}".encode()
    argument = pickle.BINUNICODE + struct.pack("<I", len(command)) + command
    call = pickle.GLOBAL + GLOBALS[generator.integers(len(GLOBALS))] + b"\n" + argument
    depth = int(generator.integers(1, 20_000))
    length = struct.pack("<I", depth)
    index = struct.pack("<I", int(generator.integers(2**32)))
    doubled = b"]q\0" + b"".join(
        b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(int(generator.integers(1, 200)))
    )
    programs = [
        call + pickle.TUPLE1 + pickle.REDUCE,
        b"(S'touch %s'\nios\nsystem\n" % str(canary).encode(),
        argument + pickle.NONE + pickle.MEMOIZE + b"\x8c\x02os\x8c\x06system\x93",
        (pickle.NONE + pickle.LONG_BINPUT + index) * int(generator.integers(1, 50)),
        pickle.EMPTY_LIST * depth + pickle.APPEND * (depth - 1),
        pickle.EMPTY_TUPLE + pickle.TUPLE1 * depth,
        pickle.MARK * depth + pickle.TUPLE * depth,
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * depth + pickle.NONE + b"s",
        pickle.MARK + doubled + pickle.TUPLE,
        pickle.BINUNICODE + index + b"x" * depth,
        pickle.LONG4 + index,
        b"]q\0h\0a",
        # Records in each other, records that are called, records in themselves, keys of one hash.
        b"ca\nB\nq\0" + b"h\0" * depth + b")" + b"\x81\x85" * (depth - 1) + b"\x81",
        b"ca\nB\n" + b")R" * depth,
        b"ca\nB\n)\x81q\0}X\1\0\0\0ah\0sb",
        b"ca\nB\n)\x81q\0(" + b"(h\0h\0" * 10 + b"t" * 10 + b"0" + b"e",
        b"}(" + b"".join(b"ca\nB\n)\x81K\1" for _ in range(depth % 500)) + b"u",
        b")q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"}h<K\1s",
        b"c__builtin__\nset\n](" + b"(K\1J" + index + b"te\x85R",
        b"c_codecs\nencode\nX%sq\0X\6\0\0\0latin1q\1\x86R" % (length + b"x" * depth)
        + b"c_codecs\nencode\nh\0h\1\x86R\x86" * 100,
    ]
    return pickle.PROTO + b"\x02" + programs[generator.integers(len(programs))] + pickle.STOP


def mutate_header(generator, content, _canary):
    """Damage the JSON of a safetensors file, under a length that fits."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = content[8 : 8 + length], content[8 + length :]
    ways = [
        lambda: flip_bits(generator, header),
        lambda: move_block(generator, header),
        lambda: change_numbers(generator, header),
        lambda: change_tree(generator, header),
        lambda: header[:1] + b'"x":' + b"[" * int(generator.integers(1, 50_000)) + header[1:],
        lambda: header[:1] + header[1:].split(b"},")[0] + b"}," + header[1:],
    ]
    header = ways[generator.integers(len(ways))]()
    return struct.pack("<Q", len(header)) + header + data


def change_numbers(generator, header):
    """Replace one number by another, quoted or not."""
    tree = json.loads(header)
    name = list(tree)[generator.integers(len(tree))]
    field = ["shape", "data_offsets"][generator.integers(2)]
    if field in tree[name]:
        values = [NUMBERS[i] for i in generator.integers(len(NUMBERS), size=generator.integers(4))]
        tree[name][field] = values
    return json.dumps(tree).encode()


def change_tree(generator, header):
    """Damage the nested value inside of the metadata."""
    tree = json.loads(header)
    metadata = tree.get("__metadata__", {})
    for key, text in metadata.items():
        metadata[key] = move_block(generator, text.encode()).decode("utf-8", "replace")
        if generator.integers(2):
            metadata[key] = text.replace(
                str(generator.choice(["dict", "tuple", "tensor", "0", "1", "lr", '"'])),
                str(generator.choice(["tuple", "counter", "[", "1e999", "x", ""])),
                1,
            )
    return json.dumps(tree).encode()
