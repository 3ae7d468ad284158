"""The version of fvc: stands in artifacts, so it may not depend on how or whether the package is installed."""

VERSION = "0.1.0"
