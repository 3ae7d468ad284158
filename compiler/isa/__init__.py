"""The instruction set: one field table (table.py) from which encoder, decoder, assembler and reference page come;
the container with its reader and linker; the static checker in check/.
"""

from compiler.isa.asm import assemble, disassemble
from compiler.isa.container import read_device, write_device
from compiler.isa.encoding import decode, encode
from compiler.isa.link import LinkMap, link

__all__ = ["LinkMap", "assemble", "decode", "disassemble", "encode", "link", "read_device", "write_device"]
