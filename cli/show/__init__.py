"""What commands print: one JSON document or text on stdout, messages, errors and progress on stderr."""
