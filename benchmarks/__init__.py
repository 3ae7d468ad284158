"""What is measured against peers, published tables and real models; each module one command, results as JSON."""
