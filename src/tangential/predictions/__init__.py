"""What a trained detector finds in pictures, and the command that draws it."""

from tangential.predictions.command import predict as predict
