"""Every error code, its title and what to do about it: the text of `fvc explain CODE` and of docs/errors.md.

0xx usage and configuration, 1xx models and import, 2xx capacity and plans, 3xx binaries and bundles,
4xx execution and verification, 5xx devices and clusters, 9xx defects of fvc.
"""

from __future__ import annotations

CATALOG: dict[str, tuple[str, str]] = {
    "FVC001": ("bad usage", "The command line has an option, a value or an argument that the command does not take. `fvc COMMAND --help` lists what it takes."),
    "FVC002": ("file cannot be read", "A file or folder that was named does not exist, is a folder where a file is wanted, or may not be read."),
    "FVC003": ("output cannot be written", "The output folder or file cannot be made or replaced: a missing folder, missing rights, a full disk, or a folder that is no bundle and is therefore not overwritten. Nothing was half-written."),
    "FVC004": ("bad settings file", "fvc.toml, tool.fvc in pyproject.toml or the file given with --config is not TOML, or names a setting that no command has. `fvc config show` lists all settings and where each value comes from."),
    "FVC005": ("not in this version", "The option is understood but what it asks for is not built yet, so it is refused rather than ignored."),
    "FVC006": ("unknown code or layer", "`fvc explain` knows the codes that are listed in docs/errors.md, and the layers of the bundle that it is given."),
    "FVC007": ("bad data file", "A file of inputs, calibration samples or labels is no .npz, lacks an array, or has an array of the wrong name, shape or type. Arrays bear the ONNX names of the graph inputs; several samples are stacked along the first axis."),
    "FVC008": ("out of memory", "The machine that runs fvc has not enough memory for this model."),
    "FVC380": ("not a bundle", "The folder has no manifest.json, or its manifest cannot be read: it was not written by `fvc partition`, or something removed the file."),
    "FVC381": ("bundle altered", "A file of the bundle is missing, or its size or SHA-256 is not what the manifest says. Compile again, or take the bundle from where it was made."),
    "FVC280": ("bad plan file", "plan.json is not JSON, has another schema version, lacks a field, has one too many, or a value of the wrong type. compiler/plan/plan.schema.json describes it."),
    "FVC281": ("plan of another model", "The plan given with --locked was made for a model with other layers or another hash."),
    "FVC900": ("internal error", "A defect of fvc itself. Please report it with the command line and the model."),
}
