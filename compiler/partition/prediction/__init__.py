"""The analytical prediction of a finished plan: what every core, link, bank and the host do, and when."""
