"""A page of nearest neighbours: what a trained embedding finds for some queries, right and wrong."""

from tangential.neighbours.command import neighbours as neighbours
