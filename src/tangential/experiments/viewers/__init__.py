"""What a model or a trained run looks like: inspection, detections and nearest neighbours, with their pages."""
