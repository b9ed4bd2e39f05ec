"""The five far-infrared bands: frequency, beam, and conversion of units."""

#: Names of the bands, in the order of every `band` dimension.
BANDS: tuple[str, ...] = ("217", "353", "545", "857", "2998")

#: Frequency of each band [GHz]; 2998 GHz is 100 um.
FREQUENCY: dict[str, float] = {
    "217": 217.0,
    "353": 353.0,
    "545": 545.0,
    "857": 857.0,
    "2998": 2998.0,
}

#: nu_0, at which the optical depth per reddening rho is defined [GHz].
REFERENCE_FREQUENCY: float = 353.0

#: MJy/sr per K_CMB, for a band's measured bandpass and the IRAS convention nu I = const.
#: Planck 2013 results IX, as released with the frequency maps.
K_CMB_TO_MJY_SR: dict[str, float] = {
    "217": 483.690,
    "353": 287.450,
    "545": 58.0356,
    "857": 2.2681,
}

#: Noise of the published fits [MJy/sr] (Zelko et al. 2022, all configurations).
PAPER_SIGMA: dict[str, float] = {
    "217": 0.5,
    "353": 3.0,
    "545": 9.0,
    "857": 25.0,
    "2998": 30.0,
}
