#!/usr/bin/env python3
"""An F16 copy of a GGUF file: every matrix dequantised, vectors as they are, the metadata kept.

    scripts/make_float16_model.py SOURCE.gguf TARGET.gguf

Needs the Python package gguf (scripts/reference.sh has it), whose dequantisation is not ours. Nothing is done where the target
exists; it gets its name when it is whole.
"""
import os, sys

import gguf
import numpy as np


def copy_metadata(reader, writer):
    for field in reader.fields.values():
        if field.name in (gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE) or field.name.startswith("GGUF."):
            continue  # written by the writer, or no longer true
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)


def main(source, target):
    if os.path.exists(target):
        return
    reader = gguf.GGUFReader(source)
    partial = f"{target}.{os.getpid()}.partial"
    try:
        writer = gguf.GGUFWriter(partial, reader.get_field(gguf.Keys.General.ARCHITECTURE).contents())
        copy_metadata(reader, writer)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, values.astype(np.float16 if len(tensor.shape) > 1 else np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, target)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
