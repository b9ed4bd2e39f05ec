"""The table of the archives: whole, without contradictions, and in agreement with dustmaps."""

import inspect
import re
from pathlib import Path

import dustmaps.bayestar
import dustmaps.decaps
import dustmaps.edenhofer2023
import dustmaps.leike2020
import dustmaps.sfd
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.sky.archives import GROUPS, PRODUCTS, DataverseFile, expand
from pymcdust.sky.download import plan
from pymcdust.sky.transfer import SIGNATURES

FILES = [file for product in PRODUCTS.values() for file in product.files]


def test_files_have_names_of_their_own():
    names = [file.name for file in FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_well_described(file):
    if isinstance(file.source, DataverseFile):
        assert file.source.doi.startswith("10.7910/DVN/")
        assert file.source.wanted
    else:
        assert file.source.startswith("https://")
        assert file.source.endswith((".fits", ".h5"))
    assert any(file.name.endswith(suffix) for suffix in SIGNATURES)
    assert file.size is None or file.about is None
    assert file.checksum is None or re.fullmatch("md5:[0-9a-f]{32}", file.checksum)


def test_no_checksum_comes_twice():
    known = [file.checksum for file in FILES if file.checksum]
    assert len(set(known)) == len(known)


def test_every_product_is_to_be_cited():
    for product in PRODUCTS.values():
        assert re.search(r"\d{4}", product.citation)


@pytest.mark.parametrize(
    ("prefix", "module"),
    [
        ("bayestar", dustmaps.bayestar),
        ("decaps", dustmaps.decaps),
        ("edenhofer2023", dustmaps.edenhofer2023),
        ("leike2020", dustmaps.leike2020),
        ("sfd", dustmaps.sfd),
    ],
)
def test_records_and_checksums_are_those_of_dustmaps(prefix, module):
    source = inspect.getsource(module)
    for name, product in PRODUCTS.items():
        for file in product.files if name.startswith(prefix) else ():
            if isinstance(file.source, DataverseFile):
                assert file.source.doi in source
                if prefix != "sfd":
                    assert all(value in source for _, value in file.source.wanted)
            else:
                assert file.checksum.removeprefix("md5:") in source
                assert file.source.rpartition("/")[2] in source
                assert re.search(r"records/(\d+)/", file.source)[1] in source


def test_sizes_of_npipe_are_those_that_its_archive_lists():
    (polarised,) = PRODUCTS["planck-pr4-353"].files
    (intensity,) = PRODUCTS["planck-pr4-857"].files
    assert polarised.about == 576 * 2**20
    assert intensity.about == 192 * 2**20


def test_what_the_paper_needs():
    assert expand("paper") == [
        "bayestar2019",
        "planck-pr2-217",
        "planck-pr2-353",
        "planck-pr2-545",
        "planck-pr2-857",
        "sfd-i100",
        "smica-pr2",
    ]


def test_groups_hold_products_and_are_none():
    assert not GROUPS.keys() & PRODUCTS.keys()
    for members in GROUPS.values():
        assert members
        assert set(members) <= PRODUCTS.keys()


def test_a_product_comes_once():
    assert expand(["smica-pr2", "paper", "smica-pr2"]).count("smica-pr2") == 1


def test_an_unknown_name():
    with pytest.raises(ConfigurationError, match=r"unknown product 'bayestar19'.*'bayestar2019'"):
        expand("bayestar19")


def test_the_docs_list_every_product():
    page = (Path(__file__).parents[2] / "docs" / "downloads.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| `")]
    expected = [
        [f"`{name}`", product.title, " + ".join(file.size_text for file in plan(name))]
        for name, product in PRODUCTS.items()
    ]
    assert [row[:3] for row in rows] == expected
    for row, product in zip(rows, PRODUCTS.values(), strict=True):
        known = [file.checksum is not None for file in product.files]
        assert (row[3] == "yes") == all(known)
        assert row[4] == product.citation
