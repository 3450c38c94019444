"""Mean and color-axis files: against OpenCV's own FileStorage, and refusals."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.errors import FormatError, MissingDataError
from convolve.formats.mean_xml import read_color_axes, read_mean_xml, write_mean_xml

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
MEAN = (100 + 50 * np.random.default_rng(0).standard_normal((4, 5, 3))).astype(np.float32)


def with_opencv(path):
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    sizes = [int(storage.getNode(name).real()) for name in ("Row", "Col", "Channel")]
    return storage.getNode("MeanImg").mat().reshape(sizes)


def test_the_file_that_cntk_read():
    mean = read_mean_xml(GOLDEN / "mean32.xml")
    assert mean.shape == (32, 32, 3)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, with_opencv(GOLDEN / "mean32.xml"))


def test_opencv_reads_what_is_written_and_so_do_we(tmp_path):
    write_mean_xml(tmp_path / "mean.xml", MEAN)
    assert np.array_equal(with_opencv(tmp_path / "mean.xml"), MEAN)
    assert np.array_equal(read_mean_xml(tmp_path / "mean.xml"), MEAN)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_opencv_writes(tmp_path, dtype):
    storage = cv2.FileStorage(str(tmp_path / "mean.xml"), cv2.FILE_STORAGE_WRITE)
    for name, value in (("Channel", 3), ("Row", 4), ("Col", 5)):
        storage.write(name, value)
    storage.write("MeanImg", MEAN.astype(dtype).reshape(20, 3))
    storage.release()
    assert np.array_equal(read_mean_xml(tmp_path / "mean.xml"), MEAN)


def test_both_readings_of_a_planar_file(tmp_path):
    """CNTK's CIFAR-10 script writes planes of R, G, B; its reader takes them for B, G, R pixels."""
    planes_CHW = MEAN[:, :, ::-1].transpose(2, 0, 1)
    numbers = " ".join(f"{value:e}" for value in planes_CHW.reshape(-1))
    (tmp_path / "mean.xml").write_text(
        "<?xml version='1.0'?><opencv_storage><Channel>3</Channel><Row>4</Row><Col>5</Col>"
        "<MeanImg type_id='opencv-matrix'><rows>1</rows><cols>60</cols><dt>f</dt>"
        f"<data>{numbers}</data></MeanImg></opencv_storage>"
    )
    assert np.allclose(read_mean_xml(tmp_path / "mean.xml", "planar_rgb"), MEAN, rtol=1e-6)
    scrambled = read_mean_xml(tmp_path / "mean.xml", "interleaved_bgr")
    assert np.allclose(scrambled.reshape(-1), planes_CHW.reshape(-1), rtol=1e-6)
    assert np.array_equal(scrambled, with_opencv(tmp_path / "mean.xml"))


def test_planar_files_are_written_too(tmp_path):
    write_mean_xml(tmp_path / "mean.xml", MEAN, "planar_rgb")
    assert np.array_equal(read_mean_xml(tmp_path / "mean.xml", "planar_rgb"), MEAN)
    assert np.array_equal(with_opencv(tmp_path / "mean.xml").reshape(3, 4, 5), MEAN[:, :, ::-1].transpose(2, 0, 1))


def test_color_axes():
    axes = read_color_axes(GOLDEN / "lighting.xml")
    assert axes.values.tolist() == [40, 20, 5]
    assert np.allclose(axes.vectors, [[0.5, -0.7, 0.3], [0.6, 0.1, -0.8], [0.55, 0.65, 0.4]])


XML = (
    "<?xml version='1.0'?>\n<opencv_storage><Channel>1</Channel><Row>1</Row><Col>2</Col>"
    "<MeanImg type_id='opencv-matrix'><rows>1</rows><cols>2</cols><dt>f</dt>"
    "<data>1. -2.5e0</data></MeanImg></opencv_storage>"
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("<data>1. -2.5e0", "<data>\n1.\n\n-2.5 ", None),
        ("'1.0'?>", "'1.0'?><!-- a comment -->", None),
        ("</opencv_storage>", "", r"line 2, column \d+: not well-formed XML"),
        (XML, "", "line 1, column 1: not well-formed XML"),
        (XML, "\x00\x01", "not well-formed XML"),
        ("opencv_storage", "storage", "the outermost element must be opencv_storage, got storage"),
        ("<Row>1</Row>", "", "opencv_storage has no Row; it has Channel, Col, MeanImg"),
        ("<Row>1<", "<Row>2<", "Channel x Row x Col is 1 x 2 x 2, but MeanImg holds 2 values"),
        ("<Row>1<", "<Row>-1<", "Row must be a positive whole number, got '-1'"),
        ("<Row>1<", "<Row>0<", "Row must be a positive whole number"),
        ("<Row>1<", "<Row>99999999999<", "Row must be a positive whole number"),
        ("MeanImg", "Mean", "there is no MeanImg; there is Channel, Row, Col, Mean"),
        ("<cols>2", "<cols>3", "MeanImg is 1 x 3, but holds 2 values"),
        ("<dt>f", "<dt>u", 'MeanImg has the type \'u\'; only "f" and "d" are supported'),
        ("-2.5e0", "cat", "value 2 of MeanImg must be a finite number, got 'cat'"),
        ("-2.5e0", ".Nan", "value 2 of MeanImg must be a finite number"),
        ("-2.5e0", "1e39", "value 2 of MeanImg must be a finite number"),
        ("'1.0'?>", "'1.0' encoding='klingon'?>", "XML|encoding"),
        ("\n<opencv_storage>", "<!DOCTYPE x [<!ENTITY e 'eee'>]><opencv_storage>&e;", "an unsupported kind of XML"),
        ("\n<opencv_storage>", "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><opencv_storage>", "unsupported kind of XML"),
    ],
)
def test_variants_and_refusals(tmp_path, old, new, message):
    path = tmp_path / "mean.xml"
    path.write_text(XML.replace(old, new))
    if message is None:
        assert read_mean_xml(path).tolist() == [[[1.0], [-2.5]]]
    else:
        with pytest.raises(FormatError, match=message) as caught:
            read_mean_xml(path)
        assert str(caught.value).startswith(str(path))


def test_a_mean_file_has_no_color_axes_and_the_reverse(tmp_path):
    with pytest.raises(FormatError, match="there is no EigVal; there is Channel, Row, Col, MeanImg"):
        read_color_axes(GOLDEN / "mean32.xml")
    with pytest.raises(FormatError, match="has no Channel; it has EigVal, EigVec"):
        read_mean_xml(GOLDEN / "lighting.xml")
    (tmp_path / "wide.xml").write_text(
        (GOLDEN / "lighting.xml").read_text().replace("<rows>1</rows><cols>3", "<rows>3</rows><cols>1")
    )
    with pytest.raises(FormatError, match=r"EigVal must be a 1 x 3 matrix, it is \(3, 1\)"):
        read_color_axes(tmp_path / "wide.xml")


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingDataError, match="no such file; name the XML file"):
        read_mean_xml(tmp_path / "nothing.xml")
