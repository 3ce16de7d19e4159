"""An encoder from images alone: the published method, as a tool."""
