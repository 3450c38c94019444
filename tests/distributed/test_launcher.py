"""Which worker a process is: the variables of every launcher, as their manuals and real runs give them."""

from __future__ import annotations

import pytest

from convolve.distributed.launcher import RankInfo, first_host, master_address, rank_info
from convolve.errors import UsageError

# What processes really find in their environment; worker 1 of 4 in each case.
LAUNCHED = {
    "torchrun": {
        "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "41234", "TORCHELASTIC_RUN_ID": "none",
    },
    "Ray": {
        "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "NODE_RANK": "0",
        "MASTER_ADDR": "192.0.2.2", "MASTER_PORT": "60355", "RAY_JOB_ID": "01000000",
    },
    "Open MPI": {
        "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "prterun-host-24134@1", "PMIX_RANK": "1",
    },
    "Intel MPI": {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"},
    "MS-MPI": {"PMI_RANK": "1", "PMI_SIZE": "4", "PMI_SMPD_KEY": "1", "PMI_KVS": "{2b3c1f9e-0d7a-4e57}"},
    "Slurm": {
        "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "gpu03",
    },
}  # fmt: skip
ON_TWO_HOSTS = {
    "Ray": {"LOCAL_WORLD_SIZE": "2", "NODE_RANK": "1"},
    "Open MPI": {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
    "Intel MPI": {"MPI_LOCALNRANKS": "2"},
    "Slurm": {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "gpu[03-04]"},
}


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_launcher_is_understood(name: str) -> None:
    own = rank_info(LAUNCHED[name])
    assert (own.rank, own.size, own.is_one_host) == (1, 4, True)
    assert name in own.launcher
    assert own.job
    assert master_address(own, LAUNCHED[name]) is None


@pytest.mark.parametrize("address", ["photos-master-0", "localhost"])
def test_pods_of_a_pytorch_job(address: str) -> None:
    """Each is a host. Older operators tell the first one that it is found at localhost."""
    environ = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": address, "MASTER_PORT": "23456"}
    pod = environ | {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PET_NNODES": "4", "PET_NODE_RANK": "0"}
    own = rank_info(pod)
    assert (own.rank, own.size, own.is_one_host, "PyTorchJob" in own.launcher) == (0, 4, False, True)
    assert master_address(own, pod) == (address, 23456)


def test_alone() -> None:
    assert rank_info({}) == RankInfo()
    assert rank_info({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}) == RankInfo()  # a batch script
    assert rank_info({"RANK": "3"}) == RankInfo()  # somebody else's variable


@pytest.mark.parametrize("name", ON_TWO_HOSTS)
def test_several_hosts(name: str) -> None:
    environ = LAUNCHED[name] | ON_TWO_HOSTS[name]
    own = rank_info(environ)
    assert not own.is_one_host
    told = environ | {"MASTER_ADDR": "first"}
    port = int(environ.get("MASTER_PORT", 29500))
    assert master_address(own, told) == ("first", port)
    assert master_address(own, told | {"MASTER_PORT": "4000"}) == ("first", 4000)
    if name == "Slurm":
        host, port = master_address(own, environ) or ("", 0)
        assert host == "gpu03"
        assert 20_000 <= port < 30_000
    elif name != "Ray":  # it gives the address itself
        with pytest.raises(UsageError, match=r"4 workers on several hosts need a common address.*MASTER_ADDR"):
            master_address(own, environ)


@pytest.mark.parametrize(("address", "is_one_host"), [("127.0.0.1", True), ("localhost", True), ("first", False)])
def test_started_by_hand(address: str, is_one_host: bool) -> None:
    """Nobody says how many workers share this host; those of one job have the same port."""
    environ = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": "29417"}
    own, of_another_job = rank_info(environ), rank_info(environ | {"MASTER_PORT": "29418"})
    assert (own.is_one_host, own.job == of_another_job.job) == (is_one_host, False)
    assert master_address(own, environ) == (None if is_one_host else (address, 29417))


def test_torchrun_starts_them_anew() -> None:
    """After a failure, with nothing else changed: what the first ones said must not be read."""
    first, second = (rank_info(LAUNCHED["torchrun"] | {"TORCHELASTIC_RESTART_COUNT": count}) for count in "01")
    assert first.job != second.job


def test_slurm_starts_other_launchers() -> None:
    """One of them on each host: mpiexec's daemons, or torchrun, are Slurm's processes, and the workers theirs."""
    once_a_host = LAUNCHED["Slurm"] | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    assert rank_info(once_a_host | LAUNCHED["Open MPI"]).launcher == "Open MPI"
    assert "torchrun" in rank_info(once_a_host | LAUNCHED["torchrun"]).launcher


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            LAUNCHED["Open MPI"] | {"RANK": "0", "WORLD_SIZE": "1"},
            "torchrun, .*says that this is worker 0 of 1, Open MPI worker 1 of 4.*unset OMPI_COMM_WORLD_RANK",
        ),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK=4 and WORLD_SIZE=4: ranks count from 0"),
        ({"PMI_RANK": "one", "PMI_SIZE": "4"}, "PMI_RANK='one' is not a number of workers"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK='-1'"),
    ],
)
def test_contradictions_are_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rank_info(environ)


@pytest.mark.parametrize("port", ["", "0", "65536", "http"])
def test_bad_port(port: str) -> None:
    with pytest.raises(UsageError, match="MASTER_PORT"):
        master_address(RankInfo(0, 2, is_one_host=False), {"MASTER_ADDR": "first", "MASTER_PORT": port})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [  # forms of `scontrol show hostlist`
        ("gpu03", "gpu03"), ("login,gpu[03-07]", "login"), ("gpu[03-07,12],login", "gpu03"), ("a[1,5]b,c", "a1b"),
        ("node-a.cluster.org,node-b.cluster.org", "node-a.cluster.org"),
    ],
)  # fmt: skip
def test_first_host(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_first_host_is_not_guessed() -> None:
    with pytest.raises(UsageError, match="MASTER_ADDR"):
        first_host("[03-07]")
