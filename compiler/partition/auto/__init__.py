"""`--style auto`: the tiled plan, the streaming plan and plans with both, judged by one order; the best is taken."""
