"""From folders to what one makes of them: what is inside, exports, merged and selected folders."""
