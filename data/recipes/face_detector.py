"""In which share of images does a face detector that had no part in training find a frontal face?

Viola and Jones' cascade of Haar features (2001), as OpenCV ships it up to version 4. It is no part of the
course's environment: `python run.py python -m pip install "opencv-python-headless<5"`.
"""

from functools import cache

from torch import Tensor

PACKAGE = '"opencv-python-headless<5"'
DETECTOR = {
    "cascade": "haarcascade_frontalface_default.xml",
    "side": 192,  # pixels of the enlarged image
    "smallest": 96,  # pixels of the smallest face
    "scale_factor": 1.1,
    "neighbours": 5,
}


@cache
def _cascade(name: str):
    """OpenCV's detector, and OpenCV itself."""
    try:
        import cv2

        found = cv2.CascadeClassifier(cv2.data.haarcascades + name)
    except (ImportError, AttributeError) as error:
        raise ImportError(f"the face detector needs a package: pip install {PACKAGE}") from error
    if found.empty():
        raise ImportError(f"{name} is missing in OpenCV: pip install {PACKAGE}")
    cv2.setNumThreads(1)
    return found, cv2


def has_face(images: Tensor, settings: dict = DETECTOR) -> list[bool]:
    """Whether the detector finds a frontal face in each of the uint8 images (n, 3, s, s).

    Raises ImportError, with the remedy, where OpenCV 4 is not installed.
    """
    (cascade, cv2), size, least = _cascade(settings["cascade"]), (settings["side"],) * 2, settings["smallest"]
    found = []
    for image in images.permute(0, 2, 3, 1).contiguous().numpy():
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC)
        faces = cascade.detectMultiScale(
            grey, settings["scale_factor"], settings["neighbours"], minSize=(least, least)
        )
        found.append(len(faces) > 0)
    return found
