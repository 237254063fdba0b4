"""The tests mirror the package's tree; ``support`` holds what several of them share."""
