"""Five Jetsons as their tools and files show them: the texts have the form that their JetPack gives them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FakeBoard:
    """One board with one JetPack.

    `target`: its name among the targets. `compatible`: names of the device tree, most specific first. `tensorrt`:
    exact, as engines carry it. `package`: version of its Debian package. `power_modes`: by nvpmodel's number; those
    in `restarting` take a restart. `clocks`: what `jetson_clocks --show` prints;
    None where it refuses. `files`: further system files by path.
    """

    target: str
    model: str
    compatible: tuple[str, ...]
    release: str
    l4t: str
    jetpack: str
    tensorrt: tuple[int, int, int, int]
    package: str
    power_mode: str
    tegrastats: str
    memory_kib: int
    clocks: str | None
    files: dict[str, str]
    power_modes: tuple[str, ...] = ("MAXN",)
    restarting: tuple[str, ...] = ()


_ORIN_CLOCKS = """\
SOC family:tegra234  Machine:NVIDIA Jetson
Online CPUs: 0-5
cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=729600 IdleStates: WFI=1 c7=1
cpu1: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=806400 IdleStates: WFI=1 c7=1
GPU MinFreq={least} MaxFreq=1020000000 CurrentFreq=1020000000
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=1
NV Power Mode: 25W
"""
_THERMAL = {
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "/sys/class/thermal/thermal_zone0/temp": "48562",
    "/sys/class/thermal/thermal_zone1/type": "cv0-thermal",
    "/sys/class/thermal/thermal_zone1/temp": "-256000",
}
_OVER_CURRENT = {
    "/sys/class/hwmon/hwmon0/name": "ina3221",
    "/sys/class/hwmon/hwmon3/name": "soctherm_oc",
    "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0",
    "/sys/class/hwmon/hwmon3/oc3_event_cnt": "27",
}

NANO_4_6_1 = FakeBoard(
    "nano@4.6.1",
    "NVIDIA Jetson Nano Developer Kit",
    ("nvidia,p3450-0000", "nvidia,tegra210"),
    "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 17:05:08 UTC 2022",
    "32.7.1",
    "4.6.1",
    (8, 2, 1, 8),
    "8.2.1-1+cuda10.2",
    "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n",
    "RAM 1170/3964MB (lfb 214x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [2%@102,0%@102,0%@102,"
    "0%@102] EMC_FREQ 0% GR3D_FREQ 0%@76 PLL@26C CPU@28.5C PMIC@100C GPU@27C AO@34.5C thermal@27.75C "
    "POM_5V_IN 1522/1540 POM_5V_GPU 0/0 POM_5V_CPU 162/170",
    4059712,
    None,
    {
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "102000",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1479000",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "102000",
        "/sys/class/devfreq/57000000.gpu/min_freq": "76800000",
        "/sys/class/devfreq/57000000.gpu/max_freq": "921600000",
        "/sys/class/devfreq/57000000.gpu/cur_freq": "76800000",
        "/sys/class/thermal/thermal_zone0/type": "AO-therm",
        "/sys/class/thermal/thermal_zone0/temp": "34500",
        "/sys/class/thermal/thermal_zone4/type": "PMIC-Die",
        "/sys/class/thermal/thermal_zone4/temp": "100000",
    },
    power_modes=("MAXN", "5W"),
)
XAVIER_5_1 = FakeBoard(
    "agx-xavier@5.1",
    "Jetson-AGX",
    ("nvidia,p2972-0000", "nvidia,tegra194"),
    "# R35 (release), REVISION: 2.1, GCID: 32413640, BOARD: t186ref, EABI: aarch64, DATE: Tue Jan 24 23:38:33 UTC 2023",
    "35.2.1",
    "5.1",
    (8, 5, 2, 2),
    "8.5.2-1+cuda11.4",
    "NV Fan Mode:quiet\nNV Power Mode: MODE_30W_ALL\n3\n",
    "01-25-2023 10:12:13 RAM 3024/30991MB (lfb 5x4MB) SWAP 0/15495MB (cached 0MB) CPU [0%@1190,1%@1190,off,off] "
    "EMC_FREQ 0%@1600 GR3D_FREQ 0%@318 VIC_FREQ 115 APE 150 AUX@36C CPU@38C Tdiode@40C AO@36.5C GPU@36.5C tj@38C "
    "GPU 0mW/0mW CPU 310mW/310mW SOC 930mW/930mW CV 0mW/0mW VDDRQ 155mW/155mW SYS5V 1860mW/1860mW",
    31734784,
    "GPU MinFreq=114750000 MaxFreq=905250000 CurrentFreq=318750000\n"
    "EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000 FreqOverride=0\n",
    {**_THERMAL, **_OVER_CURRENT},
)
ORIN_NANO_6_2 = FakeBoard(
    "orin-nano@6.2",
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025",
    "36.4.3",
    "6.2",
    (10, 3, 0, 30),
    "10.3.0.30-1+cuda12.5",
    "NV Power Mode: 25W\n1\n",
    "01-20-2025 18:00:01 RAM 2406/7620MB (lfb 6x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,0%@729,0%@729,0%@729,"
    "0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] NVDEC off NVJPG off VIC off OFA off APE 200 cpu@48.5C "
    "soc2@47.8C soc0@47.6C gpu@49.2C cv0@-256C tj@49.2C soc1@48.4C VDD_IN 4872mW/4872mW VDD_CPU_GPU_CV 522mW/530mW "
    "VDD_SOC 1447mW/1447mW",
    7802880,
    _ORIN_CLOCKS.format(least=306000000),
    {**_THERMAL, **_OVER_CURRENT},
    power_modes=("15W", "25W", "MAXN_SUPER"),
    restarting=("15W",),
)
AGX_ORIN_7_2 = FakeBoard(
    "agx-orin@7.2",
    "NVIDIA Jetson AGX Orin Developer Kit",
    ("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
    "# R39 (release), REVISION: 2.0, GCID: 45122801, BOARD: generic, EABI: aarch64, DATE: Fri Jun 12 03:04:05 UTC 2026",
    "39.2.0",
    "7.2",
    (10, 16, 2, 10),
    "10.16.2.10-1+cuda13.2",
    "NV Power Mode: MAXN\n0\n",
    "06-20-2026 09:00:01 RAM 5021/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) CPU [1%@2201,0%@2201,off,off] "
    "EMC_FREQ 0%@3199 GR3D_FREQ 12%@[1300,1299] cpu@50.5C tj@51.2C soc2@47.8C gpu@46.1C "
    "VDD_GPU_SOC 3183mW/3183mW/3183mW VDD_CPU_CV 795mW/795mW/800mW VIN_SYS_5V0 4032mW/4032mW/4032mW NC 0mW/0mW/0mW "
    "VDDQ_VDD2_1V8AO 404mW/404mW/404mW",
    64349184,
    _ORIN_CLOCKS.format(least=1020000000),
    {**_THERMAL, **_OVER_CURRENT},
)
THOR_7_2 = FakeBoard(
    "thor@7.2",
    "NVIDIA Jetson AGX Thor Developer Kit",
    ("nvidia,p3971-0089+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
    "# R39 (release), REVISION: 2.0, GCID: 45122801, BOARD: generic, EABI: aarch64, DATE: Fri Jun 12 03:04:05 UTC 2026",
    "39.2.0",
    "7.2",
    (10, 16, 2, 10),
    "10.16.2.10-1+cuda13.2",
    "NV Power Mode: MAXN\n0\n",
    "06-20-2026 09:00:01 RAM 6120/125772MB (lfb 8x4MB) SWAP 0/0MB (cached 0MB) CPU [0%@972,0%@972] EMC_FREQ 0%@4266 "
    "GR3D_FREQ @[1575,1575,1575] cpu@40.1C tj@41.0C gpu@40.5C VDD_GPU -12mW/0mW/0mW "
    "VDD_CPU_SOC_MSS 6350mW/6350mW/6350mW VIN_SYS_5V0 5139mW/5139mW/5139mW VIN 22310mW/22310mW/22310mW",
    128790528,
    "GPU MinFreq=315000000 MaxFreq=1575000000 CurrentFreq=1575000000\n",
    {**_THERMAL, **_OVER_CURRENT},
)
BOARDS = (NANO_4_6_1, XAVIER_5_1, ORIN_NANO_6_2, AGX_ORIN_7_2, THOR_7_2)
