"""The command that downloads, as a user meets it."""

import pytest
from archive_server import fits, md5, serve
from typer.testing import CliRunner

from pymcdust import cli
from pymcdust.sky import download, transfer
from pymcdust.sky.archives import PRODUCTS, DataFile, Product

CONTENT = fits(10_000)


@pytest.fixture
def archive(monkeypatch):
    """An archive with one file, which is large enough to be asked for."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(download, "LARGE", 1000)
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with serve() as archive:
        archive.files["/map.fits"] = CONTENT
        file = DataFile("map.fits", f"{archive.url}/map.fits", len(CONTENT), None, md5(CONTENT))
        monkeypatch.setitem(PRODUCTS, "map", Product("A map", "Somebody 2020", (file,)))
        yield archive


@pytest.fixture
def run(archive, monkeypatch, tmp_path, capsys):
    """Run the command into a folder of its own; return exit status, output and errors."""
    monkeypatch.setenv("PYMCDUST_DATA", str(tmp_path))

    def command(*words: str, answer: str = "") -> tuple[int, str, str]:
        result = CliRunner().invoke(cli.app, ["download", *words], input=answer)
        captured = capsys.readouterr()
        return result.exit_code, result.output + captured.out, str(result.exception)

    return command


def test_yes(run, archive, tmp_path):
    status, out, _ = run("map", "--yes")
    assert status == 0
    assert (tmp_path / "map.fits").read_bytes() == CONTENT
    assert "cite Somebody 2020" in out
    assert "Download" not in out


def test_a_large_download_is_asked_for(run, archive, tmp_path):
    status, out, _ = run("map", answer="n\n")
    assert status == 1
    assert "10 kB" in out
    assert f"{archive.url}/map.fits" in out
    assert "Download 10 kB?" in out
    assert archive.asked == []
    status, _, _ = run("map", answer="y\n")
    assert status == 0
    assert (tmp_path / "map.fits").read_bytes() == CONTENT
    status, out, _ = run("map")
    assert status == 0
    assert len(archive.asked) == 1


def test_offline(run, archive, tmp_path):
    status, out, _ = run("map", "--offline")
    assert status == 2
    assert "map.fits" in out
    assert "10 kB" in out
    assert f"{archive.url}/map.fits" in out
    assert "1 of 1 files are missing" in out
    (tmp_path / "map.fits").write_bytes(CONTENT)
    assert run("map", "--offline")[0] == 0
    assert archive.asked == []


def test_offline_tells_all_that_the_paper_needs(run):
    status, out, _ = run("paper", "--offline")
    assert status == 2
    for word in ("bayestar2019.h5", "728 MB", "doi:10.7910/DVN/2EJ9TX", "~2.01 GB", "8 of 8"):
        assert word in out


def test_list(run, archive, tmp_path):
    (tmp_path / "map.fits.part").write_bytes(b"x")
    status, out, _ = run("--list")
    assert status == 0
    for name in PRODUCTS:
        assert name in out
    assert "paper: bayestar2019" in out
    assert "in part" in out
    assert archive.asked == []
    status, out, _ = run("--list", "sfd-i100")
    assert status == 0
    assert "SFD_i100_4096_sgp.fits" in out
    assert "bayestar2019.h5" not in out


def test_nothing_named(run):
    assert "--list shows it" in run()[2]


def test_an_unknown_name(run):
    assert "did you mean 'paper'" in run("papre")[2]


def test_another_folder(run, tmp_path):
    assert run("map", "--yes", "--folder", str(tmp_path / "deep" / "er"))[0] == 0
    assert (tmp_path / "deep" / "er" / "map.fits").is_file()


def test_errors_are_one_message_and_status_2(archive, monkeypatch, tmp_path, capsys):
    del archive.files["/map.fits"]
    words = ["pymcdust", "download", "map", "--yes", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: map.fits: ")
    assert "answers 404" in err
    assert err.count("\n") == 1
