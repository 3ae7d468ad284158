"""SPECs, cluster files, topologies and routes."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from compiler.catalog import CATALOG
from device_db import load_board, load_cluster
from device_db.clusters import topology_pairs
from device_db.errors import FvcError
from device_db.model import SWITCH, Cluster, DieRef
from device_db.topology import device_path, link_specs, memory_wires, route, transport


def names(spec: str) -> list[str]:
    return [d.name for d in load_cluster(spec).devices]


def test_specs() -> None:
    assert names("u280") == ["u280-0"]
    assert names("u280x4") == [f"u280-{k}" for k in range(4)]
    assert names("u280x2+u250x1") == ["u280-0", "u280-1", "u250-0"]
    assert names(" U280 x2 + zcu102 ") == ["u280-0", "u280-1", "zcu102-0"]
    assert names("s10mxx2") == ["s10mx-0", "s10mx-1"]
    assert names("u280+u250+u280") == ["u280-0", "u250-0", "u280-1"]
    assert load_cluster("U280 x2").name == load_cluster("u280x2").name


@pytest.mark.parametrize(
    ("spec", "code", "says"),
    [
        ("", "FVC503", "empty"),
        ("u280x0", "FVC503", "at least one"),
        ("u280x-1", "FVC503", "-1"),
        ("u280x257", "FVC504", "256"),
        ("u280x200+u250x200", "FVC504", "400"),
        ("u280x" + "9" * 5000, "FVC504", "256"),
        ("u281", "FVC501", "u280"),
        ("u280x2,u250", "FVC502", "u280x2"),
        ("u280+", "FVC502", "nothing beside"),
        ("+", "FVC502", "nothing beside"),
        ("missing.toml", "FVC505", "missing.toml"),
        ("x4", "FVC501", "x4"),
    ],
)
def test_bad_specs(spec: str, code: str, says: str) -> None:
    with pytest.raises(FvcError) as caught:
        load_cluster(spec)
    assert caught.value.code == code
    assert caught.value.exit_code == 2
    assert says in caught.value.block()
    assert code in CATALOG


def test_bad_options() -> None:
    with pytest.raises(FvcError, match="FVC511"):
        load_cluster("u280x2", topology="star")
    for clock in (0, -5, 3_000_000):
        with pytest.raises(FvcError, match="FVC512"):
            load_cluster("u280", clock_khz=clock)
    assert {d.clock_khz for d in load_cluster("u280", clock_khz=200_000).devices[0].board.dies} == {200_000}


def test_topologies_link_what_they_say() -> None:
    assert topology_pairs(4, "chain") == [(0, 1), (1, 2), (2, 3)]
    assert topology_pairs(4, "ring") == [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert topology_pairs(2, "ring") == [(0, 1)]
    assert topology_pairs(4, "mesh") == [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert topology_pairs(6, "mesh") == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5)]
    assert topology_pairs(4, "torus") == topology_pairs(4, "mesh")
    around = {(4 * y + x, 4 * y + (x + 1) % 4) for y in range(4) for x in range(4)}
    around |= {(4 * y + x, (4 * y + 4) % 16 + x) for y in range(4) for x in range(4)}
    assert {frozenset(pair) for pair in topology_pairs(16, "torus")} == {frozenset(pair) for pair in around}
    assert len(topology_pairs(16, "torus")) == 32
    # Rows 0-2, 3-5 and 6: two rows and one column (0, 3, 6) have three devices.
    assert topology_pairs(7, "torus") == sorted([*topology_pairs(7, "mesh"), (0, 2), (3, 5), (0, 6)])
    assert topology_pairs(3, "switch") == [(0, SWITCH), (1, SWITCH), (2, SWITCH)]
    for kind in ("chain", "ring", "mesh", "torus", "switch"):
        assert topology_pairs(1, kind) == []
        for n in range(2, 20):
            assert nx.is_connected(nx.Graph(topology_pairs(n, kind)))


def test_links_share_the_cages_of_a_device() -> None:
    """A U280 has two QSFP28 cages: chain and ring give 100 Gb/s a link, four neighbours in a mesh half of it."""
    assert {x.bits_per_second for x in load_cluster("u280x4", topology="ring").links} == {100_000_000_000}
    mesh = load_cluster("u280x9", topology="mesh")
    middle = [x.bits_per_second for x in mesh.links if 4 in (x.a, x.b)]
    assert middle == [50_000_000_000] * 4
    # One cage on a U50: its two neighbours in a chain share it.
    assert {x.bits_per_second for x in load_cluster("u50x3").links} == {50_000_000_000}


def test_the_network_stack_is_charged_once_a_device_is_linked() -> None:
    alone, pair = load_cluster("u280").devices[0].board, load_cluster("u280x2").devices[0].board
    assert alone.dies[2].shell.lut == 0
    assert pair.dies[2].shell.lut == 35_219
    assert pair.dies[:2] == alone.dies[:2]
    assert load_board("u280").dies[2].shell.lut == 0


def test_routes_worked_by_hand() -> None:
    c = load_cluster("u280x4")
    assert route(c, DieRef(0, 1), DieRef(0, 1)) == ()
    assert route(c, DieRef(0, 0), DieRef(0, 2)) == ("u280-0/SLR0>SLR1", "u280-0/SLR1>SLR2")
    assert route(c, DieRef(0, 0), DieRef(2, 1)) == (
        "u280-0/SLR0>SLR1",
        "u280-0/SLR1>SLR2",
        "u280-0>u280-1",
        "u280-1>u280-2",
        "u280-2/SLR2>SLR1",
    )
    assert route(c, None, DieRef(1, 1)) == ("host>u280-1", "u280-1/SLR0>SLR1")
    assert route(c, DieRef(1, 2), None) == ("u280-1/SLR2>SLR1", "u280-1/SLR1>SLR0", "u280-1>host")
    ring = load_cluster("u280x4", topology="ring")
    assert route(ring, DieRef(0, 2), DieRef(3, 2)) == ("u280-0>u280-3",)
    star = load_cluster("u280x3", topology="switch")
    assert route(star, DieRef(0, 2), DieRef(2, 2)) == ("u280-0>switch", "switch>u280-2")


@pytest.mark.parametrize("spec", ["u280x5", "u280x2+u250x1+zcu102x2"])
@pytest.mark.parametrize("topology", ["chain", "ring", "mesh", "torus", "switch"])
def test_routes_are_shortest_and_made_of_links_that_exist(spec: str, topology: str) -> None:
    c = load_cluster(spec, topology=topology)
    specs, graph = link_specs(c), nx.Graph([(x.a, x.b) for x in c.links])
    refs: list[DieRef | None] = [*c.dies, None]
    for a in refs:
        for b in refs:
            links = route(c, a, b)
            assert all(specs[x][0] > 0 and specs[x][1] > 0 for x in links)
            assert links == route(c, a, b)
            if a and b and a.device != b.device:
                hops = [x for x in links if transport(x) == "Ethernet"]
                assert len(hops) == nx.shortest_path_length(graph, a.device, b.device)
            assert _connected(c, a, b, links)


def _connected(c: Cluster, a: DieRef | None, b: DieRef | None, links: tuple[str, ...]) -> bool:
    """Follow the link ids from device to device and die to die."""

    def place(ref: DieRef | None) -> tuple[str, str]:
        return ("host", "") if ref is None else tuple(c.die_name(ref).split("/"))  # type: ignore[return-value]

    dev, die = place(a)
    boards = {d.name: d.board for d in c.devices}
    for link in links:
        source, target = link.split(">")
        if "/" in source:
            owner, first = source.split("/")
            assert (owner, first) == (dev, die)
            die = target
            continue
        assert source == dev
        if dev in boards and target != "switch":
            edge = boards[dev].pcie_die if target == "host" else boards[dev].network_die
            assert edge is None or die in ("", boards[dev].dies[edge].name)
        elif dev in boards:
            network = boards[dev].network_die
            assert network is not None and die in ("", boards[dev].dies[network].name)
        came, dev = dev, target
        die = ""
        if dev in boards:
            into = boards[dev].pcie_die if came == "host" else boards[dev].network_die
            assert into is not None
            die = boards[dev].dies[into].name
    return (dev, die) == place(b) if b else dev == "host"


def test_link_rates() -> None:
    specs = link_specs(load_cluster("u280x2"))
    assert specs["u280-0>u280-1"] == (100_000_000_000, 1_000)
    # 512 bits at 300 MHz; eight registers.
    assert specs["u280-0/SLR0>SLR1"] == (153_600_000_000, 27)
    assert specs["host>u280-1"] == (96_000_000_000, 10_000)
    slower = link_specs(load_cluster("u280x2", clock_khz=150_000))
    assert slower["u280-0/SLR0>SLR1"][0] == 76_800_000_000
    assert memory_wires(256) == 800
    assert memory_wires(512) == 1600


CLUSTER = """schema = "fvc.cluster/1"
name = "lab"
clock_mhz = 250

[[device]]
board = "u280"
name = "left"

[[device]]
board = "u250"
name = "right"

[[device.reserved]]
die = "SLR3"
lut = 100000
reason = "video pipeline"

[[link]]
a = "left"
b = "right"
gbps = 40
latency_ns = 700
"""


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "lab.toml"
    file.write_text(text)
    return str(file)


def test_a_cluster_file(tmp_path: Path) -> None:
    c = load_cluster(write(tmp_path, CLUSTER))
    assert (c.name, c.topology) == ("lab", "custom")
    assert [d.name for d in c.devices] == ["left", "right"]
    assert (c.links[0].bits_per_second, c.links[0].latency_ns) == (40_000_000_000, 700)
    whole = load_board("u250").dies[3]
    assert c.devices[1].board.dies[3].shell.lut == whole.shell.lut + 100_000
    assert {d.clock_khz for dev in c.devices for d in dev.board.dies} == {250_000}
    assert load_cluster(write(tmp_path, CLUSTER), clock_khz=100_000).devices[0].board.dies[0].clock_khz == 100_000


def test_a_users_board_beside_the_cluster_file(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("device_db/boards/zcu102.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('name = "zcu102"', 'name = "mine"'))
    c = load_cluster(write(tmp_path, 'schema = "fvc.cluster/1"\n[[device]]\nboard_file = "mine.toml"\ncount = 3\n'))
    assert [d.name for d in c.devices] == ["mine-0", "mine-1", "mine-2"]
    assert names(str(tmp_path / "mine.toml")) == ["mine-0"]
    assert names(str(tmp_path / "mine.toml") + "x2") == ["mine-0", "mine-1"]


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ('b = "right"', 'b = "rihgt"', "FVC508", "rihgt"),
        ('b = "right"', 'b = "left"', "FVC508", "itself"),
        ('board = "u250"', 'board = "u251"', "FVC501", "u250"),
        ('board = "u250"', "", "FVC506", "board or board_file"),
        ("gbps = 40", "gbps = -1", "FVC506", "gbps"),
        ("clock_mhz = 250", "clock_mhz = 0", "FVC506", "clock_mhz"),
        ('name = "right"', 'name = "left"', "FVC506", "twice"),
        ('name = "right"', 'name = "host"', "FVC506", "no device name"),
        ("lut = 100000", "lut = 900000", "FVC506", "more is reserved"),
        ('die = "SLR3"', 'die = "SLR9"', "FVC506", "SLR9"),
        ('schema = "fvc.cluster/1"', 'schema = "fvc.cluster/9"', "FVC506", "schema"),
        ('name = "lab"', 'name = "lab"\ntopology = "ring"', "FVC506", "leave out"),
        ("gbps = 40", "gbps = 40 40", "FVC505", "TOML"),
    ],
)
def test_broken_cluster_files(tmp_path: Path, old: str, new: str, code: str, says: str) -> None:
    text = CLUSTER.replace(old, new, 1)
    assert text != CLUSTER
    with pytest.raises(FvcError) as caught:
        load_cluster(write(tmp_path, text))
    assert caught.value.code == code, caught.value.block()
    assert says in caught.value.block()
    assert "lab.toml" in caught.value.block() or code == "FVC501"


def test_a_cluster_in_two_pieces(tmp_path: Path) -> None:
    text = CLUSTER + '\n[[device]]\nboard = "u280"\nname = "lonely"\n'
    with pytest.raises(FvcError, match="FVC509") as caught:
        load_cluster(write(tmp_path, text))
    assert "lonely" in caught.value.block()


def test_a_cluster_without_devices(tmp_path: Path) -> None:
    with pytest.raises(FvcError, match="FVC503"):
        load_cluster(write(tmp_path, 'schema = "fvc.cluster/1"\ndevice = []\n'))


def test_a_board_without_network_cannot_be_linked(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("device_db/boards/kv260.toml").read_text()
    start, end = text.index("[network]"), text.index("[host]")
    (tmp_path / "alone.toml").write_text(text[:start] + text[end:])
    assert names(str(tmp_path / "alone.toml")) == ["kv260-0"]
    with pytest.raises(FvcError, match="FVC510"):
        load_cluster(str(tmp_path / "alone.toml") + "x2")


def test_device_path_is_none_between_pieces() -> None:
    c = load_cluster("u280x2")
    assert device_path(Cluster(c.name, c.topology, c.devices, ()), 0, 1) is None
