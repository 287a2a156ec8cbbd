"""The address for programs: bytes in, JSON out, with limits; nothing is kept, nothing is left behind."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from tests.page.conftest import Address, Serve, held, wait_for

from cxrlab.inference import Predictor
from cxrlab.page import Desk, Page
from cxrlab.page.documents import NO_DIAGNOSIS
from cxrlab.page.server import Limits


def test_a_file_becomes_plain_values(site: Address, film: bytes) -> None:
    status, headers, body = site.ask("POST", "/api/examine", film, X_File_Name="R%C3%B6ntgen.png")
    said = json.loads(body)
    assert status == 200
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert said["file"] == "Röntgen.png"
    assert said["notice"].startswith("Research software, not a medical device.")
    assert NO_DIAGNOSIS in said["notice"]
    assert "card" not in said
    (row,) = said["predictions"]
    expected = site.desk.predictors[0].examine("Röntgen.png", film).prediction.as_dict()
    assert {key: row[key] for key in expected} == expected
    assert row["synthetic"] is True
    assert row["calibrated"] is True
    assert row["model_name"] == "tiny"
    assert any("sensitivity" in each for each in row["statements"])


def test_png_and_dicom_of_the_same_pixels_have_the_same_score(site: Address, film: bytes, dicom: bytes) -> None:
    scores = {
        json.loads(site.ask("POST", "/api/examine", data)[2])["predictions"][0]["score"] for data in (film, dicom)
    }
    assert len(scores) == 1
    assert scores != {None}


def test_files_that_cannot_be_used_are_rows_with_a_reason(site: Address, huge: bytes, photograph: bytes) -> None:
    for data, kind, reason in (
        (b"", "unreadable", "the file is empty (0 bytes)"),
        (b"GIF89a", "unreadable", "a GIF, which is not read"),
        (huge, "unreadable", "10000x10000 pixels by its header, over the limit of 50,000,000"),
        (photograph, "photograph", ""),
    ):
        status, _, body = site.ask("POST", "/api/examine", data, X_File_Name="film.png")
        (row,) = json.loads(body)["predictions"]
        assert (status, row["verdict"], row["score"], row["label"]) == (200, "refuse", None, "")
        assert row["kind"] == kind
        assert reason in row["reason"]
        if kind == "unreadable":
            status, _, body = site.ask("POST", "/api/film", data, X_File_Name="film.png")
            assert status == 422
            assert reason in json.loads(body)["error"]
            assert b"film.png" not in body


def test_an_upload_over_the_limit_is_refused_before_it_is_read(site: Address) -> None:
    status, headers, body = site.ask("POST", "/api/examine", b"x", Content_Length=str(10**12))
    assert (status, headers["connection"]) == (413, "close")
    assert "larger than 4 MB" in json.loads(body)["error"]


def test_what_is_announced_and_never_sent_ends_with_the_connection(site: Address) -> None:
    uploads = site.page._uploads
    with site.begun("/api/examine"):
        wait_for(lambda: list(uploads.values()) == [3])
        assert site.in_line == 0  # it holds no place
    wait_for(lambda: not uploads)


def test_an_upload_that_stands_still_is_given_up(serve: Serve, predictor: Predictor) -> None:
    with serve(Desk([predictor]), limits=Limits(pause=0.2)) as site, site.begun("/api/examine") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_one_file_at_a_time_for_a_model_and_a_line_with_an_end(serve: Serve, predictor: Predictor, film: bytes) -> None:
    with (
        held(Predictor, "examine") as (go, inside),
        serve(Desk([predictor]), max_waiting=3) as site,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = [pool.submit(site.ask, "POST", "/api/examine", film) for _ in range(3)]
        wait_for(lambda: site.in_line == 3)
        status, headers, body = site.ask("POST", "/api/examine", film)
        assert (status, headers["retry-after"]) == (503, "2")
        assert json.loads(body)["error"] == "3 files wait already; send it again in a few seconds"
        assert site.ask("GET", "/")[0] == 200  # the page itself answers meanwhile
        wait_for(lambda: bool(inside))
        time.sleep(0.3)  # in which the other two would be inside, if they were let in
        assert len(inside) == 1
        go.set()
        assert [answer.result()[0] for answer in answers] == [200, 200, 200]
        assert site.ask("POST", "/api/examine", film)[0] == 200


def test_what_fails_inside_is_a_sentence_and_names_no_patient(
    site: Address, film: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with mock.patch.object(Predictor, "prepare", side_effect=RuntimeError("Doe^Jane")), caplog.at_level(logging.ERROR):
        status, _, body = site.ask("POST", "/api/examine?card=true", film, X_File_Name="jane.png")
    assert status == 500
    assert json.loads(body)["error"].startswith("The program failed on this file")
    assert "RuntimeError at" in caplog.text
    assert "Doe" not in caplog.text
    assert "jane" not in caplog.text
    assert site.ask("POST", "/api/examine", film)[0] == 200


@pytest.mark.parametrize("name", ["%", "%4", "%zz", "%ff%fe", "a" * 9000, "%00%0d%0aX: y"])
def test_a_malformed_name_is_shown_somehow(site: Address, film: bytes, name: str) -> None:
    status, headers, body = site.ask("POST", "/api/examine", film, X_File_Name=name)
    assert status == 200
    assert "x" not in headers
    assert "\n" not in json.loads(body)["file"]


@pytest.mark.parametrize("name", ["max_upload_mb", "max_waiting"])
def test_limits_are_checked(predictor: Predictor, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Page(Desk([predictor]), **dict[str, Any]({name: 0}))


def test_a_film_is_all_its_pixels_without_loss(site: Address, film: bytes, photograph: bytes) -> None:
    for data, flag in ((film, cv2.IMREAD_GRAYSCALE), (photograph, cv2.IMREAD_COLOR)):
        status, headers, body = site.ask("POST", "/api/film", data)
        assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/png", "no-store")
        assert "x-grey-levels" not in headers
        found, expected = (cv2.imdecode(np.frombuffer(each, np.uint8), flag) for each in (body, data))
        assert (np.asarray(found) == np.asarray(expected)).all()


def test_a_dicom_film_has_its_values_in_two_channels_and_says_what_they_mean(site: Address, dicom: bytes) -> None:
    status, headers, body = site.ask("POST", "/api/film", dicom, X_File_Name="Doe.dcm")
    assert status == 200
    known = json.loads(headers["x-grey-levels"])
    blue, green, red = cv2.split(np.asarray(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)))
    assert (known["centre"], known["width"], known["photometric"]) == (128, 256, "MONOCHROME2")
    assert (known["low"] + known["step"] * (256.0 * red + green) == blue).all()  # a window that changes nothing
    assert b"Doe" not in body + json.dumps(headers).encode()


def test_a_film_stands_in_the_same_line_under_the_same_limits(serve: Serve, predictor: Predictor, film: bytes) -> None:
    with (
        held(Desk, "film", (film, None)) as (go, _),
        serve(Desk([predictor]), max_waiting=1, max_upload_mb=1, limits=Limits(pause=0.2)) as site,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(site.ask, "POST", "/api/film", film)
        wait_for(lambda: site.in_line == 1)
        assert site.ask("POST", "/api/film", film)[0] == site.ask("POST", "/api/examine", film)[0] == 503
        go.set()
        assert first.result()[0] == 200
        assert site.ask("POST", "/api/film", b"x", Content_Length="2000000")[0] == 413
        assert site.ask("POST", "/api/film", film, Origin="https://evil.example")[0] == 403
        assert site.ask("POST", "/api/film", film, Host="evil.example")[0] == 403
        assert site.ask("GET", "/api/film")[0] == 404
        with site.begun("/api/film") as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
