"""Hair, rulers, ink and the like, found by simple image analysis; and the tone of the skin."""
