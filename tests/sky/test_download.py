"""Downloads from an archive that breaks off, lies, ignores ranges and changes its files."""

import errno
import json
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from archive_server import fits, md5, serve

import pymcdust
from pymcdust.errors import ConfigurationError, DownloadError
from pymcdust.sky import download as module
from pymcdust.sky import transfer
from pymcdust.sky.archives import PRODUCTS, DataFile, DataverseFile, Product
from pymcdust.sky.download import data_folder, plan

CONTENT = fits(10_000)


@pytest.fixture
def archive(monkeypatch):
    """An archive with one file, small pieces and no patience."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "BLOCK", 1000)
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with serve() as archive:
        archive.files["/map.fits"] = CONTENT
        monkeypatch.setattr(module, "DATAVERSE", archive.url)
        yield archive


@pytest.fixture
def offer(archive, monkeypatch):
    """Put the archive's file into the table, with what is known of it."""

    def put(name="map.fits", source=None, **known) -> None:
        file = DataFile(name, source or f"{archive.url}/map.fits", **known)
        monkeypatch.setitem(PRODUCTS, "map", Product("A map", "Somebody 2020", (file,)))

    put(size=len(CONTENT), checksum=md5(CONTENT))
    return put


def there(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_whole(folder, content=CONTENT) -> None:
    assert (folder / "map.fits").read_bytes() == content
    assert there(folder) == ["map.fits", "map.fits.json"]


def interrupt(archive, tmp_path) -> str:
    """Leave the first 3000 bytes of the file; return what was said."""
    archive.breaks = 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "ATTEMPTS", 1)
        with pytest.raises(DownloadError) as caught:
            pymcdust.download("map", tmp_path, confirm=True)
    archive.breaks = 0
    return str(caught.value)


def test_a_file_and_its_note(archive, offer, tmp_path):
    seen = []
    paths = pymcdust.download(
        "map", tmp_path / "new", progress=lambda name, done, total: seen.append((name, done, total))
    )
    assert paths == {"map": [tmp_path / "new" / "map.fits"]}
    assert_whole(tmp_path / "new")
    assert seen[0] == ("map.fits", 1000, 10_000)
    assert seen[-1] == ("map.fits", 10_000, 10_000)
    note = json.loads((tmp_path / "new" / "map.fits.json").read_text())
    assert note["checksum"] == md5(CONTENT)
    assert note["url"] == f"{archive.url}/map.fits"
    pymcdust.download("map", tmp_path / "new")
    assert len(archive.asked) == 1


def test_an_answer_that_breaks_off_is_continued(archive, offer, tmp_path):
    archive.breaks = 2
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked == [
        ("/map.fits", None),
        ("/map.fits", "bytes=3000-"),
        ("/map.fits", "bytes=6000-"),
    ]


def test_a_later_run_goes_on(archive, offer, tmp_path):
    told = interrupt(archive, tmp_path)
    assert told.startswith("map.fits: ")
    assert "3 kB are kept, and the next run goes on" in told
    assert there(tmp_path) == ["map.fits.part", "map.fits.part.json"]
    (waiting,) = plan("map", tmp_path)
    assert (waiting.present, waiting.kept, waiting.bytes_left) == (False, 3000, 7000)
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked[-1] == ("/map.fits", "bytes=3000-")
    assert archive.headers[-1]["If-Range"] == f'"{md5(CONTENT)[4:]}"'
    # Ranges of what is compressed on its way are not those of the file.
    assert {headers["Accept-Encoding"] for headers in archive.headers} == {"identity"}


def test_a_server_that_ignores_ranges(archive, offer, tmp_path):
    archive.ranges, archive.breaks = False, 1
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert [wanted for _, wanted in archive.asked] == [None, "bytes=3000-"]


def test_a_server_that_continues_elsewhere(archive, offer, tmp_path):
    interrupt(archive, tmp_path)
    archive.slip = 10
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert [wanted for _, wanted in archive.asked[-2:]] == ["bytes=3000-", None]


def test_attempts_that_bring_nothing_new_are_bounded(archive, offer, tmp_path):
    archive.ranges, archive.breaks = False, 10**6
    with pytest.raises(DownloadError, match="5 attempts"):
        pymcdust.download("map", tmp_path)
    assert len(archive.asked) == 5


def test_progress_gives_new_patience(archive, offer, tmp_path):
    archive.breaks, archive.piece = 9, 1000
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert len(archive.asked) == 10 > transfer.ATTEMPTS


def test_a_wrong_checksum(archive, offer, tmp_path):
    other = md5(b"other")
    offer(checksum=other)
    with pytest.raises(DownloadError, match=f"{md5(CONTENT)}, not {other}; the file was removed"):
        pymcdust.download("map", tmp_path)
    assert there(tmp_path) == []


@pytest.mark.parametrize("checks", [True, False], ids=["If-Range heard", "If-Range ignored"])
def test_a_file_that_changes_in_between_is_not_mixed(archive, offer, tmp_path, checks):
    offer()
    interrupt(archive, tmp_path)
    archive.checks = checks
    archive.files["/map.fits"] = changed = fits(10_000, seed=1)
    pymcdust.download("map", tmp_path, confirm=True)
    assert_whole(tmp_path, changed)


def test_a_file_that_shrinks_in_between(archive, offer, tmp_path):
    offer()
    interrupt(archive, tmp_path)
    archive.checks = False
    archive.files["/map.fits"] = shorter = fits(2000, seed=1)
    pymcdust.download("map", tmp_path, confirm=True)
    assert_whole(tmp_path, shorter)


@pytest.mark.parametrize("validators", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_strong_validator_it_starts_anew(archive, offer, tmp_path, validators):
    archive.validators, archive.breaks = validators, 1
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert [wanted for _, wanted in archive.asked] == [None, None]


def test_the_time_of_change_is_a_validator(archive, offer, tmp_path):
    archive.validators = {"Last-Modified": "Mon, 01 Jan 2018 00:00:00 GMT"}
    archive.breaks, archive.checks = 1, False
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked[-1] == ("/map.fits", "bytes=3000-")


def test_another_address_starts_anew(archive, offer, tmp_path):
    interrupt(archive, tmp_path)
    archive.files["/elsewhere.fits"] = CONTENT
    offer(source=f"{archive.url}/elsewhere.fits", size=len(CONTENT))
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked[-1] == ("/elsewhere.fits", None)


def test_what_is_complete_is_only_checked(archive, offer, tmp_path):
    interrupt(archive, tmp_path)
    (tmp_path / "map.fits.part").write_bytes(CONTENT)
    asked = len(archive.asked)
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert len(archive.asked) == asked


def test_a_file_of_another_length_is_refused_at_once(archive, offer, tmp_path):
    offer(size=9999)
    with pytest.raises(DownloadError, match="announces 10000 bytes, but the file has 9999"):
        pymcdust.download("map", tmp_path)
    assert there(tmp_path) == []


def test_an_end_before_the_length_is_noticed_though_none_was_announced(archive, offer, tmp_path):
    archive.announces, archive.breaks = False, 10**6
    with pytest.raises(DownloadError, match="ended after 3000 of 10000 bytes"):
        pymcdust.download("map", tmp_path)
    assert not (tmp_path / "map.fits").exists()
    archive.breaks = 0
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)


def test_more_than_the_length_is_refused(archive, offer, tmp_path):
    archive.announces = False
    offer(size=9000)
    with pytest.raises(DownloadError, match="sends 10000 bytes, but the file has 9000"):
        pymcdust.download("map", tmp_path)
    assert there(tmp_path) == []


def test_a_login_page(archive, offer, tmp_path):
    offer()
    archive.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="HTML page"):
        pymcdust.download("map", tmp_path, confirm=True)
    assert there(tmp_path) == []


@pytest.mark.parametrize("name", ["map.fits", "map.h5"])
def test_a_page_that_says_it_is_data(archive, offer, tmp_path, name):
    offer(name=name)
    archive.files["/map.fits"] = b"<!doctype html><title>Log in</title>"
    with pytest.raises(DownloadError, match=rf"no .{name[4:]} file: .*doctype html.*login"):
        pymcdust.download("map", tmp_path, confirm=True)
    assert there(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(archive, offer, tmp_path, status):
    archive.statuses = [status]
    with pytest.raises(DownloadError, match=rf"map.fits: .*/map.fits answers {status}"):
        pymcdust.download("map", tmp_path)
    assert len(archive.asked) == 1
    assert there(tmp_path) == []


def test_a_server_that_is_busy_is_asked_again(archive, offer, tmp_path):
    archive.statuses = [503, 429]
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)


def test_nobody_answers(archive, offer, tmp_path):
    offer(source="http://127.0.0.1:9/map.fits", size=10)
    with pytest.raises(DownloadError, match=r"127.0.0.1.*5 attempts"):
        pymcdust.download("map", tmp_path)


def test_pauses_double(archive, offer, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(transfer, "PAUSE", 1.0)
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    archive.statuses = [503] * 5
    with pytest.raises(DownloadError, match="503"):
        pymcdust.download("map", tmp_path)
    assert pauses == [1, 2, 4, 8]


def test_a_disk_that_is_too_small(archive, offer, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9_999))
    with pytest.raises(DownloadError, match=r"10 kB free, but 10 kB are to be downloaded"):
        pymcdust.download("map", tmp_path)
    assert archive.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000))
    pymcdust.download("map", tmp_path)


def test_a_disk_that_fills_up(archive, offer, tmp_path, monkeypatch):
    class Filling(transfer.FileIO):
        def write(self, block):
            if self.tell() + len(block) > 4500:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "FileIO", Filling)
        with pytest.raises(DownloadError, match=r"No space left on device; 4 kB are kept"):
            pymcdust.download("map", tmp_path)
    assert not (tmp_path / "map.fits").exists()
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked[-1] == ("/map.fits", "bytes=4000-")


def test_a_file_that_another_process_fetches(archive, offer, tmp_path):
    with (
        transfer._locked_part(tmp_path / "map.fits"),
        pytest.raises(DownloadError, match="another process"),
    ):
        pymcdust.download("map", tmp_path)
    assert archive.asked == []
    pymcdust.download("map", tmp_path)


def test_a_file_that_another_process_has_finished_meanwhile(archive, offer, tmp_path, monkeypatch):
    path, part = tmp_path / "map.fits", tmp_path / "map.fits.part"
    part.write_bytes(CONTENT)
    lock = transfer.fcntl.flock

    def lock_too_late(file, how) -> None:
        if not path.exists():
            part.rename(path)
        lock(file, how)

    monkeypatch.setattr(transfer.fcntl, "flock", lock_too_late)
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert archive.asked == []


def test_a_part_that_another_process_has_removed_meanwhile(archive, offer, tmp_path, monkeypatch):
    part, lock, removed = tmp_path / "map.fits.part", transfer.fcntl.flock, []

    def lock_too_late(file, how) -> None:
        if not removed:
            removed.append(part.unlink())
        lock(file, how)

    monkeypatch.setattr(transfer.fcntl, "flock", lock_too_late)
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)


def test_a_file_that_is_there_is_left_as_it_is(archive, tmp_path):
    (tmp_path / "map.fits").write_bytes(b"mine")
    transfer.fetch(f"{archive.url}/map.fits", tmp_path / "map.fits")
    assert (tmp_path / "map.fits").read_bytes() == b"mine"
    assert there(tmp_path) == ["map.fits"]


def test_many_at_once_leave_one_whole_file(archive, offer, tmp_path):
    def run(_) -> str:
        try:
            pymcdust.download("map", tmp_path)
        except DownloadError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(run, range(24)))
    assert "done" in told
    assert all(text == "done" or "another process" in text for text in told)
    assert_whole(tmp_path)


def test_large_files_are_asked_for(archive, offer, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 9_999)
    with pytest.raises(DownloadError, match=r"not confirmed were map.fits \(10 kB\)"):
        pymcdust.download("map", tmp_path)
    with pytest.raises(DownloadError, match="nothing was downloaded"):
        pymcdust.download("map", tmp_path, confirm=lambda transfers: False)
    asked = []
    pymcdust.download("map", tmp_path, confirm=lambda transfers: asked.extend(transfers) or True)
    assert [transfer.path.name for transfer in asked] == ["map.fits"]
    assert_whole(tmp_path)


def test_the_server_tells_a_size_that_the_table_does_not_know(archive, offer, tmp_path):
    offer(about=9e9, checksum=md5(CONTENT))
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)


def test_a_server_that_is_too_busy_to_tell_a_size(archive, offer, tmp_path):
    offer(about=10_000)
    archive.statuses = [503]
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)


def test_a_size_that_nobody_tells_is_asked_for(archive, offer, tmp_path):
    offer()
    archive.announces = False
    with pytest.raises(DownloadError, match=r"map.fits \(unknown\)"):
        pymcdust.download("map", tmp_path)
    pymcdust.download("map", tmp_path, confirm=True)
    assert_whole(tmp_path)


def test_offline(archive, offer, tmp_path):
    with pytest.raises(DownloadError, match=rf"map.fits \(10 kB\) from {archive.url}/map.fits"):
        pymcdust.download("map", tmp_path, offline=True)
    assert archive.asked == []
    (tmp_path / "map.fits").write_bytes(CONTENT)
    assert pymcdust.download("map", tmp_path, offline=True) == {"map": [tmp_path / "map.fits"]}
    assert archive.asked == []


def test_without_a_known_checksum_a_later_change_is_noticed(archive, offer, tmp_path):
    offer()
    pymcdust.download("map", tmp_path, confirm=True)
    note = json.loads((tmp_path / "map.fits.json").read_text())
    assert note["checksum"].startswith("sha256:")
    (tmp_path / "map.fits").write_bytes(fits(10_000, seed=1))
    with pytest.raises(DownloadError, match=rf"not {note['checksum']}.*has changed"):
        pymcdust.download("map", tmp_path)


def test_a_file_is_looked_into_only_if_it_is_new(archive, offer, tmp_path, monkeypatch):
    pymcdust.download("map", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "digest", lambda *_: pytest.fail("read again"))
        pymcdust.download("map", tmp_path)
    os.utime(tmp_path / "map.fits", ns=(1, 1))
    pymcdust.download("map", tmp_path)
    assert json.loads((tmp_path / "map.fits.json").read_text())["mtime_ns"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(fits(10_000, seed=1), "the checksum is md5"), (CONTENT[:-1], "9999 bytes, not 10000")],
)
def test_a_wrong_file_that_is_there_is_refused_and_kept(offer, tmp_path, content, said):
    (tmp_path / "map.fits").write_bytes(content)
    with pytest.raises(DownloadError, match=said):
        pymcdust.download("map", tmp_path)
    assert (tmp_path / "map.fits").read_bytes() == content


def test_the_dataverse_is_asked_for_address_size_and_checksum(archive, offer, tmp_path):
    archive.dataset((7, "other.fits", b"x"), (8, "wanted.fits", CONTENT))
    offer(source=DataverseFile("10.7910/DVN/ABC", (("filename", "wanted.fits"),)))
    pymcdust.download("map", tmp_path)
    assert_whole(tmp_path)
    assert [path for path, _ in archive.asked] == [
        "/api/datasets/:persistentId",
        "/api/access/datafile/8",
    ]
    assert json.loads((tmp_path / "map.fits.json").read_text())["checksum"] == md5(CONTENT)


def test_the_checksum_of_the_dataverse_is_kept(archive, offer, tmp_path):
    archive.dataset((8, "wanted.fits", CONTENT))
    archive.files["/api/access/datafile/8"] = fits(10_000, seed=1)
    offer(source=DataverseFile("10.7910/DVN/ABC", (("filename", "wanted.fits"),)))
    with pytest.raises(DownloadError, match=f"not {md5(CONTENT)}"):
        pymcdust.download("map", tmp_path)
    assert there(tmp_path) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no file of filename 'wanted.fits'; it has other.fits"),
        (b"<html>", "other than JSON"),
        (b'{"status": "ERROR"}', "does not list the files of doi:10.7910/DVN/ABC"),
    ],
)
def test_what_the_dataverse_may_answer(archive, offer, tmp_path, answer, said):
    archive.dataset((7, "other.fits", b"x"))
    if answer:
        archive.files["/api/datasets/:persistentId"] = answer
    offer(source=DataverseFile("10.7910/DVN/ABC", (("filename", "wanted.fits"),)))
    with pytest.raises(DownloadError, match=said):
        pymcdust.download("map", tmp_path)


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("PYMCDUST_DATA", raising=False)
    assert data_folder().name == "pymcdust"
    monkeypatch.setenv("PYMCDUST_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder("~/maps") == data_folder("~").joinpath("maps")
    assert data_folder("~").is_absolute()


def test_an_unknown_name_touches_nothing(archive, tmp_path):
    with pytest.raises(ConfigurationError, match="unknown product"):
        pymcdust.download(["bayestar2019", "nonsense"], tmp_path)
    assert there(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>"])
def test_a_file_that_is_there_must_begin_as_its_kind_does(archive, offer, tmp_path, content):
    """Also where neither size nor checksum are known."""
    offer()
    (tmp_path / "map.fits").write_bytes(content)
    for offline in (False, True):
        with pytest.raises(DownloadError, match=r"is no \.fits file.*remove it"):
            pymcdust.download("map", tmp_path, offline=offline, confirm=True)
    assert not archive.asked
