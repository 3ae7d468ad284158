"""Every error code, its title and what to do about it: the text of `fvc explain CODE` and of docs/errors.md.

0xx usage and configuration, 1xx models and import, 2xx capacity and plans, 3xx binaries and bundles,
4xx execution and verification, 5xx devices and clusters, 9xx defects of fvc.
"""

from __future__ import annotations

CATALOG: dict[str, tuple[str, str]] = {
    "FVC101": (
        "model file missing",
        "The model file does not exist, is a folder, or cannot be read or written. Check the path and its rights.",
    ),
    "FVC102": (
        "not an ONNX model",
        "The file is empty, cut off, or no ONNX protobuf, or one of its constants is damaged. Export the model again.",
    ),
    "FVC103": (
        "dynamic dimensions",
        "A compiled program has static shapes without a 0. Give one for every input with an open or empty dimension: --shape NAME=1,3,224,224.",
    ),
    "FVC104": (
        "--shape does not fit",
        "The name is no graph input, or the rank or a dimension contradicts the model. The message lists what the model says.",
    ),
    "FVC105": (
        "invalid graph",
        "The ONNX graph breaks a rule of ONNX: no outputs, a cycle, a tensor read but never made or made twice, an unknown operator.",
    ),
    "FVC106": (
        "NaN or Inf in a weight",
        "No integer stands for it, and the float model gives no answer either. The message names the weight and its node.",
    ),
    "FVC107": (
        "external data refused",
        "External data must lie in the model's own folder, exist and have its stated length. Save the model with its data beside it.",
    ),
    "FVC108": (
        "operator set",
        "The model names no operator set, or one that cannot be converted to what the installed ONNX Runtime reads. Export it with a newer one, 13 or above, or an older one than the runtime's newest.",
    ),
    "FVC109": (
        "unsupported input type",
        "A graph input is no tensor of numbers, a constant is sparse, or a node makes a sequence or strings where engines and host segments exchange tensors.",
    ),
    "FVC110": (
        "quantization options",
        "The activation type must be u8 or s8.",
    ),
    "FVC111": (
        "calibration run failed",
        "ONNX Runtime cannot run the float model, or the calibration data make it give NaN, so its ranges are unknown. Often the --shape does not suit the model, or an operator has no kernel; run the model in ONNX Runtime by itself to see.",
    ),
    "FVC112": (
        "unknown architecture",
        "`fvc zoo` without a name lists the architectures there are.",
    ),
    "FVC113": (
        "ONNX Runtime refuses the model",
        "The model keeps ONNX's rules but no runtime can run it: a bias or scale of the wrong length or type, or an operator without a kernel. Host segments and the verification need one that runs.",
    ),
    "FVC120": (
        "a scale cannot be absorbed",
        "A quantiser's scale or zero point is not constant, not positive or not whole, or varies along what a layer sums up, so that no factor can be taken out of the integer sum. Quantise with one scale a tensor, or one an output channel for weights.",
    ),
    "FVC121": (
        "bit width",
        "A quantiser's bit width must be one constant whole number from 1 to 32 that leaves at least two levels.",
    ),
    "FVC122": (
        "QONNX or FINN operator not known",
        "The model has an operator of the QONNX or FINN domains, or a rounding mode, layout or table of one, that fvc does not know. Take the model before FINN's hardware steps: Quant, BipolarQuant, Trunc, MultiThreshold, Im2Col, MaxPoolNHWC and QuantAvgPool2d are read.",
    ),
    "FVC300": (
        "not a binary of fvc",
        "The file is no .fvcb container, or it is cut off: its length is not what its header says.",
    ),
    "FVC301": (
        "unknown container version",
        "The container or instruction set version is one this fvc does not read. Compile again, or use the fvc that wrote the file.",
    ),
    "FVC302": (
        "damaged file",
        "A SHA-256 of the file does not match its content. Take the file from where it was made, or compile again.",
    ),
    "FVC303": (
        "malformed section",
        "An offset, size, count or index of a section leads outside it, overlaps, or is not what the format (docs/container.md) prescribes.",
    ),
    "FVC304": (
        "section missing or unknown",
        "A critical section is missing, or the file has one that this version does not know; reading on would misread the program.",
    ),
    "FVC305": (
        "other hardware",
        "The hardware fingerprint is not that of the hardware description or of the device. The fields that differ are listed.",
    ),
    "FVC306": (
        "golden CRC differs",
        "The CRC-32 kept for each layer's constants and text differs from what the file holds, although the section hashes were repaired.",
    ),
    "FVC310": (
        "value does not fit its field",
        "A number is outside the range of its instruction field or container cell: a defect of what wrote the program.",
    ),
    "FVC311": ("illegal words", "An unknown opcode, a wrong length, an unknown queue or a reserved bit that is set."),
    "FVC312": (
        "assembler syntax",
        "A line is not: QUEUE MNEMONIC [head fields] [: fields]. docs/isa.md lists mnemonics and fields.",
    ),
    "FVC320": (
        "illegal instruction",
        "An instruction stands in a queue it does not belong to, has a flag it does not know, or waits for or posts to its own queue.",
    ),
    "FVC321": (
        "inconsistent field",
        "Fields of an instruction contradict each other, or a field that means nothing does not have its one legal value (docs/machine.md, Canonical forms).",
    ),
    "FVC322": (
        "address out of bounds",
        "A memory access leaves its address space: a scratchpad of the described engine, CONST or WORK.",
    ),
    "FVC323": ("misaligned address", "Addresses in ACC and TAB are multiples of 4."),
    "FVC324": (
        "tokens unbalanced or unbounded",
        "An iteration of the body must take as many tokens of each semaphore as it posts, and none may ever hold more than 255.",
    ),
    "FVC325": (
        "deadlock",
        "Tokens, messages and credits wait for each other in a circle; the instructions where each queue stands still are listed.",
    ),
    "FVC326": (
        "race",
        "Two instructions touch the same byte, one of them writes, and the tokens and queues of the core order neither before the other.",
    ),
    "FVC327": ("read of unwritten memory", "An instruction reads bytes that nothing wrote."),
    "FVC328": (
        "stale memory",
        "An instruction of one frame reads bytes of another frame, or what a ONCE load left is overwritten.",
    ),
    "FVC329": (
        "bad table entry",
        "A requantiser, binary or pooling entry in TAB has an unknown mode, a value that its mode does not use, or thresholds that do not ascend or lie outside TAB.",
    ),
    "FVC330": (
        "message without its other end",
        "A TX and its RX (or the host) disagree on channel, rank, tag, size, stage, order or the tensor box that moves.",
    ),
    "FVC331": (
        "devices disagree",
        "Ranks, channels, links, outputs or replicas of the binaries of one bundle contradict each other, or the links of a channel do not lead from its source to its target.",
    ),
    "FVC332": (
        "constants without symbol",
        "Symbols overlap, leave CONST, are read by no load or are not named after the task that reads them; a load reads constants of no symbol or of two; or bytes between symbols are not zero.",
    ),
    "FVC333": (
        "bad packet table",
        "A packet index does not exist, a packet is not one run of instructions in a queue, or ids do not count from 0.",
    ),
    "FVC334": (
        "bad debug row",
        "A debug index does not exist, its row is of another task than the packet, names what its role does not have, or a transfer does not move the box that its row names.",
    ),
    "FVC335": (
        "bad output placement",
        "A store lies in no placement of the memory map, or the elements of a tensor are not each stored exactly once a frame.",
    ),
    "FVC336": (
        "bad CTL queue",
        "CTL ends with its one END; a SYNC has tokens; a CRC instruction expects the CRC-32 of the constants it names.",
    ),
    "FVC337": (
        "hardware budget exceeded",
        "The program needs more than its hardware description has, or the description has a number below 1.",
    ),
    "FVC338": (
        "stage too deep",
        "An instruction or host message has a stage, or a replica, beyond what the cluster says.",
    ),
    "FVC339": (
        "bad folding metadata",
        "The folding metadata of a binary has other tasks than its packets, or says another engine, die, fold, stage, number of tiles or memory of one.",
    ),
    "FVC340": (
        "malformed netlist",
        "Units, preloads, streams, messages and RUN of a streaming binary are out of order or miscounted, or its table of units does not match.",
    ),
    "FVC341": (
        "impossible unit",
        "A unit of a netlist cannot be built: a fold that does not divide, a window outside its image, a line buffer too small.",
    ),
    "FVC342": (
        "streams do not fit",
        "A port of a netlist has no stream or two, or its ends disagree on word, type or number of words.",
    ),
    "FVC343": (
        "memories of a netlist",
        "A memory is not filled, filled twice or to another size, or constants stand there that no unit takes.",
    ),
    "FVC344": (
        "netlist over budget",
        "Units and FIFOs take more of a die, or streams more SLL wires of a boundary, than the described hardware has.",
    ),
    "FVC345": (
        "netlist comes to a halt",
        "Units feed each other in a circle, or a FIFO is too small for what must wait in it: the units named wait for each other.",
    ),
    "FVC346": (
        "boundary of a netlist",
        "SRC and SNK do not stand at both ends of a channel, move other frames, or the host's message is not the whole tensor; beside cores: a bridge's boxes are not its tensor, or its stages and slots are not those that its messages need.",
    ),
    "FVC348": (
        "weights of netlists in DRAM",
        "A reader names a memory bank that is not there or too small, stands on another die than its port, overlaps another one's weights, or its stream does not go to the unit that multiplies with them.",
    ),
    "FVC347": ("outputs of netlists", "A tensor is made twice, or an output of the graph never reaches the host."),
    "FVC313": (
        "link map does not fit",
        "The map names a rank, channel, core or space that cannot be, is no bijection, or an address would leave its field.",
    ),
    "FVC001": (
        "bad usage",
        "The command line has an option, a value or an argument that the command does not take. `fvc COMMAND --help` lists what it takes.",
    ),
    "FVC002": (
        "file cannot be read",
        "A file or folder that was named does not exist, is a folder where a file is wanted, or may not be read.",
    ),
    "FVC003": (
        "output cannot be written",
        "The output folder or file cannot be made or replaced: a missing folder, missing rights, a full disk, or a folder that is no bundle and is therefore not overwritten. Nothing was half-written.",
    ),
    "FVC004": (
        "bad settings file",
        "The settings file (fvc.toml, tool.fvc in pyproject.toml, or what --config names) is not TOML, or names a setting that no command has. `fvc config show` lists all settings and where each value comes from.",
    ),
    "FVC005": (
        "not in this version",
        "The option is understood but what it asks for is not built yet, so it is refused rather than ignored.",
    ),
    "FVC006": (
        "unknown code or layer",
        "`fvc explain` knows the codes that are listed in docs/errors.md, and the layers of the bundle that it is given.",
    ),
    "FVC007": (
        "bad data file",
        "A file of inputs, calibration samples or labels is no .npz, lacks an array, or has an array of the wrong name, shape or type. Arrays bear the ONNX names of the graph inputs; several samples are stacked along the first axis.",
    ),
    "FVC008": (
        "out of memory",
        "The machine that runs fvc has not enough memory for this model: all tensors of a frame are held at once to calibrate and to verify. Smaller shapes (--shape) need less.",
    ),
    "FVC009": (
        "refused by the operating system",
        "Something outside fvc: a name too long, no space, no rights, too many open files. The message is the system's own. Nothing was half-written.",
    ),
    "FVC380": (
        "not a bundle",
        "The folder has no manifest.json, or its manifest cannot be read: it was not written by `fvc partition`, or something removed the file.",
    ),
    "FVC381": (
        "bundle altered",
        "A file of the bundle is missing, or its size or SHA-256 is not what the manifest says. Compile again, or take the bundle from where it was made.",
    ),
    "FVC382": (
        "bad cluster snapshot",
        "cluster.json of the bundle is not JSON or not of the schema fvc.cluster-snapshot/1. Compile again.",
    ),
    "FVC282": (
        "a utilisation report that cannot be used",
        "--measured takes Vivado's report_utilization -hierarchical, as its table between bars or as CSV: a header with Instance, LUTs, FFs, block RAM and DSPs (or Instance and Clock MHz), whole numbers in each row of a node or layer, a clock in rows that name a device, a die or *. The message names the line. docs/streaming.md describes the columns.",
    ),
    "FVC280": (
        "bad plan file",
        "The file plan.json is not JSON, has another schema version, lacks a field, has one too many, or a value of the wrong type. compiler/plan/plan.schema.json describes it.",
    ),
    "FVC281": (
        "plan of another model",
        "The plan given with --locked was made for a model with other layers. A model of the same layers with other contents (trained on, say) may keep its plan: the report says so, and the plan checker judges it anew.",
    ),
    "FVC501": (
        "unknown device",
        "No board of that name is in the device database. `fvc devices list` shows the names; a board file (TOML) of your own works too.",
    ),
    "FVC502": (
        "malformed device specification",
        "SPEC is `u280`, `u280x4`, `u280x2+u250x1`, or the path of a cluster or board file ending in .toml.",
    ),
    "FVC503": (
        "no devices",
        "The specification or cluster file names no device, or a count of 0. Ask for at least one.",
    ),
    "FVC504": (
        "too many devices",
        "A cluster holds at most 256 devices. Compile for a smaller pool.",
    ),
    "FVC505": (
        "device file cannot be read",
        "The file is missing, unreadable or no valid TOML; the message gives line and column.",
    ),
    "FVC506": (
        "device file field is wrong",
        "A field is missing, unknown, of the wrong type, negative or given twice. docs/devices.md and the JSON Schemas in device_db/schema/ say what is expected.",
    ),
    "FVC507": (
        "number without source",
        'Every number of a board file needs an entry under [sources], by its dotted path, e.g. "die.raw".',
    ),
    "FVC508": (
        "link to an unknown device",
        "A link of the cluster file names a device that the file does not define, or joins a device to itself.",
    ),
    "FVC509": (
        "cluster is not connected",
        "Some devices cannot reach the others over the given links. Add a link, or choose a topology that builds them.",
    ),
    "FVC510": (
        "board has no network port",
        "Such a board can only be used alone. Choose another board or give its board file a [network] table.",
    ),
    "FVC511": (
        "unknown topology",
        "The topologies are chain, ring, mesh, torus and switch; a cluster file may also list its own links (custom).",
    ),
    "FVC512": ("clock out of range", "Give the kernel clock in MHz, between 1 and 2000."),
    "FVC401": (
        "address outside memory",
        "An instruction touches bytes outside its address space, misaligned words, or writes read-only CONST. "
        "The binary is damaged or was made for other hardware: compile again, or run `fvc check` on the bundle.",
    ),
    "FVC402": (
        "read of an unwritten byte",
        "An instruction reads memory that nothing wrote before: a load, a message or a token is missing. "
        "Run `fvc check` on the bundle; if it was made by this fvc unchanged, report it.",
    ),
    "FVC403": (
        "deadlock",
        "Queues wait for tokens, messages or channel room that never come. The report lists each queue and what it "
        "waits for. Run `fvc check` on the bundle.",
    ),
    "FVC404": (
        "semaphore out of range or unbalanced",
        "A semaphore counts 0 to 255 and returns to its marking every iteration; this program breaks one of both.",
    ),
    "FVC405": (
        "messages disagree",
        "The two ends of a channel differ in tag or size, or messages are left over. The binaries do not belong together.",
    ),
    "FVC406": (
        "checksum of constants differs",
        "The CONST image is not the one that was compiled. Copy the binary again.",
    ),
    "FVC407": (
        "illegal instruction",
        "An instruction has a field, flag, queue or channel that docs/machine.md does not allow.",
    ),
    "FVC408": (
        "host segment failed",
        "ONNX Runtime could not load or run a host segment, or an output never arrived at the host.",
    ),
    "FVC409": (
        "inputs do not fit the model",
        "The arrays given must have the graph inputs' names, shapes and element types; the message lists both sides.",
    ),
    "FVC410": (
        "verification found mismatches",
        "A tensor computed by the binaries, or an accumulator that one was requantised from, differs from ONNX "
        "Runtime on model.int.onnx. The report names the first "
        "elements, the layer and the engine.",
    ),
    "FVC411": (
        "verification incomplete",
        "Not every element of every intermediate tensor was stored and compared, so nothing is claimed as verified.",
    ),
    "FVC412": ("not a bundle", "The folder lacks the binaries (bin/*.fvcb) or model.int.onnx, or they cannot be read."),
    "FVC490": (
        "the programs cannot be timed",
        "The simulator met a deadlock, or a channel or link that no program describes. `fvc check` on the bundle says "
        "what is wrong with it.",
    ),
    "FVC520": (
        "cost case cannot be read",
        "A line given to `fvc cost` is no JSON object, lacks a field, has a value of the wrong kind, a fold that does not divide, or names a model that does not cover it.",
    ),
    "FVC901": (
        "illegal graph",
        "A defect of fvc's importer: its own check of the graph failed. Please report it with the model.",
    ),
    "FVC900": ("internal error", "A defect of fvc itself. Please report it with the command line and the model."),
    "FVC201": (
        "option of the partitioner",
        "A value given to fvc partition has no meaning. The message names the option and what it may be.",
    ),
    "FVC202": (
        "no engine fits",
        "A die cannot hold even the smallest tiled engine, or its memory ports find no wires. Use a larger board or fewer "
        "--cores.",
    ),
    "FVC203": (
        "over budget",
        "Resources of a die, or an engine's scratchpads, are too small for what must stand there. The message gives the "
        "type, demand against supply and the largest contributors.",
    ),
    "FVC204": (
        "frame rate out of reach",
        "No plan found reaches --target-fps. The message says what limits it, the proven bound, and how many more "
        "devices do: the larger clusters are solved one after the other, the fewest devices first.",
    ),
    "FVC205": (
        "latency out of reach",
        "No plan found meets --max-latency-ms. The message names the longest layers and what would help.",
    ),
    "FVC206": (
        "anchor names nothing",
        "An --anchor or a forbidden cut names a layer or a die that is not there. Layers have the names of their ONNX nodes, as `fvc explain DIR` lists them; dies are DEVICE/DIE, as in u280-0/SLR1.",
    ),
    "FVC207": (
        "too many replicas",
        "Every replica needs at least one engine of its own. Ask for fewer (--replicas), or for more devices or --cores.",
    ),
    "FVC208": (
        "over DRAM capacity",
        "Weights, tables and activation buffers of the layers on one core exceed its share of its DRAM bank. Add a device, take a board with more memory, or split large layers over cores (--force-split).",
    ),
    "FVC209": (
        "over bandwidth",
        "A link, a memory bank or the boundary between two dies carries more than it can in the plan's interval. The message says which; a longer interval, a board or --topology with faster links or another placement relieves it.",
    ),
    "FVC210": (
        "no tiled engine for a layer",
        "Tiled engines multiply bytes. A layer with activations or weights of 9 to 16 bits has streaming engines alone: use --style streaming, or --style tiled with the model as it was, which leaves such layers to the host.",
    ),
    "FVC211": (
        "no placement",
        "Anchors, forbidden cuts and forced slices leave some layer without an engine. Drop one of them; the message names the layer.",
    ),
    "FVC212": (
        "no order that can be played",
        "In every plan found, engines would wait for each other's messages for ever. Another --objective, --xfer never, other slices or fewer devices give other plans; please report it with the command line and the model.",
    ),
    "FVC213": (
        "nothing to place",
        "No layer of the model runs on an engine: every node became a host segment. The reasons are listed; docs/operators.md says what runs where.",
    ),
    "FVC215": (
        "forced slices do not fit",
        "--force-split asks for more slices than there are engines, or than the largest layer has rows, columns or channels. A streaming layer has at most 64 parts.",
    ),
    "FVC216": (
        "no FINN node for a slice",
        "FINN has no unit for a layer that is cut by its matrix's rows or columns, so a plan with such layers has no files for FINN. Ask for more or larger devices, on which all layers fit whole, leave --force-split out, or do without --export finn.",
    ),
    "FVC240": (
        "no floorplan problem",
        "The file is no JSON, or neither a problem of fixed kernels (device_set) nor of fold and place (boundaries). docs/floorplan.md shows both.",
    ),
    "FVC241": (
        "bad field in a floorplan problem",
        "A field is missing, of the wrong type, negative or out of range. The message says which one and where it stands.",
    ),
    "FVC242": (
        "unknown or repeated id",
        "A floorplan problem names a kernel or slot that it does not list, or lists one twice.",
    ),
    "FVC243": ("kernel without versions", "Every kernel of a floorplan problem needs at least one version to pick."),
    "FVC250": (
        "floorplan over budget",
        "A kernel fits no slot that it may stand on, or all kernels together need more of a resource than all slots have.",
    ),
    "FVC251": (
        "no floorplan exists",
        "It is proved that no placement meets the constraints together. The message names them and how full the slots must be.",
    ),
    "FVC252": (
        "no floorplan found in time",
        "The time limit was reached before a placement was found or excluded. Raise --time-limit, or loosen the problem.",
    ),
    "FVC253": (
        "floorplan failed its checker",
        "An answer broke a rule that the independent checker recomputes. This is a defect of fvc.",
    ),
    "FVC214": (
        "no streaming engine for a layer",
        "--style streaming has no unit for this layer; the message says what stands in the way. Tiled engines may have one: --style auto leaves such layers to them.",
    ),
    "FVC217": (
        "a FINN file of another model",
        "A folding configuration or floorplan must have as many MVAUs and VVAUs as FINN would make of the model, numbered from 0, or name layers of the model and nothing else. Use the file that FINN or fvc wrote for this model.",
    ),
    "FVC218": (
        "a fold that cannot be built",
        "PE must divide the rows (or channels) of the layer and SIMD its columns; the message lists what may stand there. Mend the entry of the fold file.",
    ),
    "FVC219": (
        "a floorplan for another cluster",
        "The floorplan names an SLR or a device that the boards of --devices do not have, or a partition or memory port of the wrong type. slr -1 leaves the die open.",
    ),
    "FVC220": (
        "illegal plan",
        "A plan, made or edited, breaks a rule of docs/machine.md. Each finding names the place in plan.json. Undo the edit there, or compile again without --locked.",
    ),
    "FVC290": (
        "the plan did not pass its checker",
        "A defect of fvc: its own plan broke a rule. Please report it with the command line and the model.",
    ),
}
