"""The long loop: networks that learn for hours or days, on one processor or many, and go on after a stop."""
