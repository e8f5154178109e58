"""Figures of the results, a module a kind; `style` holds what they share."""
