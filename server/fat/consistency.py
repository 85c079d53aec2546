"""Checking a volume: the damage that a reader can see, as text. Nothing is repaired."""

from typing import Final, NamedTuple

from callgate.server.errors import FileSystemError
from callgate.server.fat.directory import ROOT, FatEntry
from callgate.server.fat.tree import Tree, walk
from callgate.server.fat.volume import FatVolume
from callgate.server.formats.clusters import ClusterChain

PROBLEMS_KEPT: Final = 100


class _Claim(NamedTuple):
    start: int  # first cluster
    end: int  # one past the last
    owner: str


class Report(NamedTuple):
    """The result of a check; after PROBLEMS_KEPT sentences, one more counts the rest of ``problems``."""

    files: int
    directories: int
    claimed_clusters: int
    lost_clusters: int
    problems: tuple[str, ...]


async def check(volume: FatVolume) -> Report:
    """Check all of the volume: tree, chains, FAT copies, and the owners of clusters."""
    tree = await walk(volume)
    problems = [*volume.damage, *tree.problems]
    claims = await _follow_chains(volume, tree, problems)
    claimed = _sweep(claims, problems)
    lost = volume.layout.clusters - volume.usage.free - volume.usage.bad - claimed
    if lost > 0:
        problems.append(f"{lost} clusters are in use and belong to no file")
    problems += await _compare_copies(volume)
    directories = sum(entry.is_directory for _, entry in tree.found)
    return Report(len(tree.found) - directories, directories, claimed, max(lost, 0), _shorten(problems))


async def _follow_chains(volume: FatVolume, tree: Tree, problems: list[str]) -> list[_Claim]:
    """Follow every chain and judge the files'; return the claims to clusters.

    Sound volumes claim a cluster once.  On a hostile one every file may share one long chain, so claims
    of more than twice the volume end the search.
    """
    claims: list[_Claim] = []
    left = 2 * volume.layout.clusters
    owners = [("/", ROOT._replace(cluster=volume.layout.root_cluster)), *tree.found]
    for number, (path, entry) in enumerate(owners):
        chain = ClusterChain(entry.cluster)
        await chain.extend(volume.table, volume.layout.clusters)
        claims.extend(_Claim(run.cluster, run.cluster + run.length, path) for run in chain.runs())
        problems += _judge(volume, path, entry, chain)
        left -= chain.length
        if left < 0:
            problems.append(f"too much is cross-linked: {len(owners) - number - 1} chains were not followed")
            break
    return claims


def _judge(volume: FatVolume, path: str, entry: FatEntry, chain: ClusterChain) -> list[str]:
    """Compare a chain with the entry it belongs to.  Directories' chains were judged by the walk."""
    if entry.is_directory:
        return []
    needed = -(-entry.size // volume.layout.cluster_bytes)
    if chain.damage:
        return [f"file {path}: {chain.damage}"]
    if chain.length < needed:
        return [f"file {path} of {entry.size} bytes: its chain has {chain.length} clusters, not {needed}"]
    if chain.length > needed:
        return [f"file {path} of {entry.size} bytes: its chain has {chain.length - needed} clusters too many"]
    return []


def _sweep(claims: list[_Claim], problems: list[str]) -> int:
    """Report clusters with more than one owner; return the number of clusters claimed."""
    claimed = 0
    reach = _Claim(0, 0, "")
    for claim in sorted(claims):
        if claim.start < reach.end:
            problems.append(f"cross-link: cluster {claim.start} belongs to {reach.owner} and to {claim.owner}")
        claimed += max(0, claim.end - max(claim.start, reach.end))
        reach = max(reach, claim, key=lambda known: known.end)
    return claimed


async def _compare_copies(volume: FatVolume) -> list[str]:
    try:
        copies = await volume.table.differing_copies()
    except FileSystemError as error:
        return [f"the FATs cannot be compared: {error.text}"]
    return [f"FAT {copy} differs from FAT 0" for copy in copies]


def _shorten(problems: list[str]) -> tuple[str, ...]:
    rest = len(problems) - PROBLEMS_KEPT
    kept = problems[:PROBLEMS_KEPT]
    return (*kept, f"and {rest} more") if rest > 0 else tuple(kept)
