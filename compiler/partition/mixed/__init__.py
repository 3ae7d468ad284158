"""Plans with both styles: which layers stream and on which dies, each side by its own planner, joined by bridges."""
