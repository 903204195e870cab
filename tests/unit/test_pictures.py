# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures and masks in and out."""

import numpy as np
import pytest
from PIL import Image

from engine.errors import BadInput
from engine.pictures import load_mask, read_picture, save_picture


def test_a_picture_comes_back_as_it_was_saved(tmp_path):
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    save_picture(tmp_path / "a" / "p.png", pixels)
    assert (read_picture(tmp_path / "a" / "p.png") == pixels).all()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["p.png"]


def test_floats_are_rounded_and_clipped(tmp_path):
    save_picture(tmp_path / "p.png", np.array([[[-1.0, 0.5, 2.0]]]))
    assert read_picture(tmp_path / "p.png").tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_refused_and_the_picture_before_stays(tmp_path, bad):
    save_picture(tmp_path / "p.png", np.full((2, 2, 3), 7, np.uint8))
    pixels = np.zeros((2, 2, 3))
    pixels[0, 0, 0] = bad
    with pytest.raises(BadInput, match="not numbers"):
        save_picture(tmp_path / "p.png", pixels)
    assert (read_picture(tmp_path / "p.png") == 7).all()


def test_a_mask_is_true_where_it_is_white_and_must_have_its_pictures_size(tmp_path):
    Image.fromarray(np.array([[0, 255, 255]], np.uint8)).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", 3, 1).tolist() == [[False, True, True]]
    with pytest.raises(BadInput, match="size"):
        load_mask(tmp_path / "m.png", 1, 3)


def test_what_is_no_picture_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "p.png").write_bytes(b"text")
    with pytest.raises(BadInput, match="cannot be read"):
        read_picture(tmp_path / "p.png")
    with pytest.raises(BadInput, match="cannot be read"):
        read_picture(tmp_path / "absent.png")
