"""The literature that the methods text cites."""

import re
from dataclasses import dataclass

from segstudy import __version__


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes
    ----------
    key
        By which the methods text cites it.
    kind
        Of its BibTeX entry.
    authors, year, title
        Of the publication.
    where
        Journal, proceedings or archive.
    doi, url
        Its address.
    """

    key: str
    kind: str
    authors: str
    year: int
    title: str
    where: str
    doi: str = ""
    url: str = ""

    @property
    def link(self) -> str:
        """Return the address of the publication."""
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    @property
    def text(self) -> str:
        """Return the reference as a list of references has it."""
        return f"{self.authors} ({self.year}). {self.title}. {self.where}."

    @property
    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        place = {
            "article": "journal",
            "inproceedings": "booktitle",
            "misc": "howpublished",
            "book": "publisher",
        }
        authors = self.authors.replace(" et al.", " and others").replace(" & ", " and ")
        if authors.startswith("The "):  # a group, whose name has no first and last part
            authors = f"{{{authors}}}"
        lines = [f"@{self.kind}{{{self.key},", f"  author = {{{authors}}},"]
        lines += [f"  title = {{{{{self.title}}}}},", f"  year = {{{self.year}}},"]
        lines.append(f"  {place[self.kind]} = {{{self.where}}},")
        if self.doi:
            lines.append(f"  doi = {{{self.doi}}},")
        elif self.url:
            lines.append(f"  url = {{{self.url}}},")
        return "\n".join([*lines, "}"])


REFERENCES = {
    reference.key: reference
    for reference in (
        Reference("barber2021", "article", "Barber RF & Candès EJ & Ramdas A & Tibshirani RJ", 2021,
                  "Predictive inference with the jackknife+",
                  "Annals of Statistics 49:486-507", "10.1214/20-AOS1965"),
        Reference("benjamini1995", "article", "Benjamini Y & Hochberg Y", 1995,
                  "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
                  "Journal of the Royal Statistical Society B 57:289-300",
                  "10.1111/j.2517-6161.1995.tb02031.x"),
        Reference("billot2023", "article", "Billot B et al.", 2023,
                  "SynthSeg: segmentation of brain MRI scans of any contrast and resolution without retraining",
                  "Medical Image Analysis 86:102789", "10.1016/j.media.2023.102789"),
        Reference("bland1986", "article", "Bland JM & Altman DG", 1986,
                  "Statistical methods for assessing agreement between two methods of clinical measurement",
                  "The Lancet 327:307-310", "10.1016/S0140-6736(86)90837-8"),
        Reference("brier1950", "article", "Brier GW", 1950,
                  "Verification of forecasts expressed in terms of probability",
                  "Monthly Weather Review 78:1-3",
                  "10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2"),
        Reference("cardoso2022", "misc", "Cardoso MJ et al.", 2022,
                  "MONAI: an open-source framework for deep learning in healthcare",
                  "arXiv:2211.02701", "10.48550/arXiv.2211.02701"),
        Reference("cheng2021", "inproceedings", "Cheng B et al.", 2021,
                  "Boundary IoU: improving object-centric image segmentation evaluation",
                  "CVPR 2021, 15334-15342", "10.1109/CVPR46437.2021.01508"),
        Reference("cicek2016", "inproceedings", "Çiçek Ö et al.", 2016,
                  "3D U-Net: learning dense volumetric segmentation from sparse annotation",
                  "MICCAI 2016, 424-432", "10.1007/978-3-319-46723-8_49"),
        Reference("datta2008", "article", "Datta S & Satten GA", 2008,
                  "A signed-rank test for clustered data",
                  "Biometrics 64:501-507", "10.1111/j.1541-0420.2007.00923.x"),
        Reference("demsar2006", "article", "Demšar J", 2006,
                  "Statistical comparisons of classifiers over multiple data sets",
                  "Journal of Machine Learning Research 7:1-30",
                  url="https://jmlr.org/papers/v7/demsar06a.html"),
        Reference("dice1945", "article", "Dice LR", 1945,
                  "Measures of the amount of ecologic association between species",
                  "Ecology 26:297-302", "10.2307/1932409"),
        Reference("fisher1935", "book", "Fisher RA", 1935,
                  "The design of experiments", "Oliver and Boyd, Edinburgh"),
        Reference("friedman1937", "article", "Friedman M", 1937,
                  "The use of ranks to avoid the assumption of normality implicit in the analysis of variance",
                  "Journal of the American Statistical Association 32:675-701",
                  "10.1080/01621459.1937.10503522"),
        Reference("gal2016", "inproceedings", "Gal Y & Ghahramani Z", 2016,
                  "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
                  "ICML 2016, 1050-1059", "10.48550/arXiv.1506.02142"),
        Reference("geifman2019", "inproceedings", "Geifman Y & Uziel G & El-Yaniv R", 2019,
                  "Bias-reduced uncertainty estimation for deep neural classifiers",
                  "ICLR 2019", "10.48550/arXiv.1805.08206"),
        Reference("guo2017", "inproceedings", "Guo C & Pleiss G & Sun Y & Weinberger KQ", 2017,
                  "On calibration of modern neural networks", "ICML 2017, 1321-1330",
                  "10.48550/arXiv.1706.04599"),
        Reference("hatamizadeh2022", "inproceedings", "Hatamizadeh A et al.", 2022,
                  "UNETR: transformers for 3D medical image segmentation",
                  "WACV 2022, 574-584", "10.1109/WACV51458.2022.00181"),
        Reference("hatamizadeh2022b", "misc", "Hatamizadeh A et al.", 2022,
                  "Swin UNETR: Swin transformers for semantic segmentation of brain tumors in MRI images",
                  "arXiv:2201.01266", "10.48550/arXiv.2201.01266"),
        Reference("heimann2009", "article", "Heimann T et al.", 2009,
                  "Comparison and evaluation of methods for liver segmentation from CT datasets",
                  "IEEE Transactions on Medical Imaging 28:1251-1265", "10.1109/TMI.2009.2013851"),
        Reference("holm1979", "article", "Holm S", 1979,
                  "A simple sequentially rejective multiple test procedure",
                  "Scandinavian Journal of Statistics 6:65-70",
                  url="https://www.jstor.org/stable/4615733"),
        Reference("howard2018", "misc", "Howard J & Ruder S", 2018,
                  "Universal language model fine-tuning for text classification",
                  "arXiv:1801.06146", "10.48550/arXiv.1801.06146"),
        Reference("hu2018", "misc", "Hu J & Shen L & Albanie S & Sun G & Wu E", 2018,
                  "Squeeze-and-excitation networks",
                  "arXiv:1709.01507", "10.48550/arXiv.1709.01507"),
        Reference("huttenlocher1993", "article",
                  "Huttenlocher DP & Klanderman GA & Rucklidge WJ", 1993,
                  "Comparing images using the Hausdorff distance",
                  "IEEE Transactions on Pattern Analysis and Machine Intelligence 15:850-863",
                  "10.1109/34.232073"),
        Reference("ioffe2015", "misc", "Ioffe S & Szegedy C", 2015,
                  "Batch normalization: accelerating deep network training by reducing internal covariate shift",
                  "arXiv:1502.03167", "10.48550/arXiv.1502.03167"),
        Reference("isensee2021", "article", "Isensee F et al.", 2021,
                  "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
                  "Nature Methods 18:203-211", "10.1038/s41592-020-01008-z"),
        Reference("jaccard1912", "article", "Jaccard P", 1912,
                  "The distribution of the flora in the alpine zone",
                  "New Phytologist 11:37-50", "10.1111/j.1469-8137.1912.tb05611.x"),
        Reference("keys1981", "article", "Keys RG", 1981,
                  "Cubic convolution interpolation for digital image processing",
                  "IEEE Transactions on Acoustics, Speech, and Signal Processing 29:1153-1160",
                  "10.1109/TASSP.1981.1163711"),
        Reference("kingma2014", "misc", "Kingma DP & Ba J", 2014,
                  "Adam: a method for stochastic optimization",
                  "arXiv:1412.6980", "10.48550/arXiv.1412.6980"),
        Reference("kirillov2019", "inproceedings", "Kirillov A et al.", 2019, "Panoptic segmentation",
                  "CVPR 2019, 9404-9413", "10.1109/CVPR.2019.00963"),
        Reference("klein2010", "article", "Klein S et al.", 2010,
                  "elastix: a toolbox for intensity-based medical image registration",
                  "IEEE Transactions on Medical Imaging 29:196-205", "10.1109/TMI.2009.2035616"),
        Reference("lakshminarayanan2017", "inproceedings",
                  "Lakshminarayanan B & Pritzel A & Blundell C", 2017,
                  "Simple and scalable predictive uncertainty estimation using deep ensembles",
                  "Advances in Neural Information Processing Systems 30:6402-6413",
                  "10.48550/arXiv.1612.01474"),
        Reference("lee2023", "misc", "Lee Y & Barber RF & Willett R", 2023,
                  "Distribution-free inference with hierarchical data",
                  "arXiv:2306.06342", "10.48550/arXiv.2306.06342"),
        Reference("lin2017", "inproceedings", "Lin TY et al.", 2017,
                  "Focal loss for dense object detection", "ICCV 2017, 2999-3007",
                  "10.1109/ICCV.2017.324"),
        Reference("lorensen1987", "article", "Lorensen WE & Cline HE", 1987,
                  "Marching cubes: a high resolution 3D surface construction algorithm",
                  "ACM SIGGRAPH Computer Graphics 21:163-169", "10.1145/37402.37422"),
        Reference("loshchilov2017", "misc", "Loshchilov I & Hutter F", 2017,
                  "Decoupled weight decay regularization",
                  "arXiv:1711.05101", "10.48550/arXiv.1711.05101"),
        Reference("maierhein2024", "article", "Maier-Hein L et al.", 2024,
                  "Metrics reloaded: recommendations for image analysis validation",
                  "Nature Methods 21:195-212", "10.1038/s41592-023-02151-z"),
        Reference("mann1947", "article", "Mann HB & Whitney DR", 1947,
                  "On a test of whether one of two random variables is stochastically larger than the other",
                  "Annals of Mathematical Statistics 18:50-60", "10.1214/aoms/1177730491"),
        Reference("milletari2016", "inproceedings", "Milletari F & Navab N & Ahmadi SA", 2016,
                  "V-Net: fully convolutional neural networks for volumetric medical image segmentation",
                  "3DV 2016, 565-571", "10.1109/3DV.2016.79"),
        Reference("molder2021", "article", "Mölder F et al.", 2021,
                  "Sustainable data analysis with Snakemake", "F1000Research 10:33",
                  "10.12688/f1000research.29032.2"),
        Reference("nadeau2003", "article", "Nadeau C & Bengio Y", 2003,
                  "Inference for the generalization error",
                  "Machine Learning 52:239-281", "10.1023/A:1024068626366"),
        Reference("nikolov2021", "article", "Nikolov S et al.", 2021,
                  "Clinically applicable segmentation of head and neck anatomy for radiotherapy: deep learning algorithm development and validation study",
                  "Journal of Medical Internet Research 23:e26151", "10.2196/26151"),
        Reference("oktay2018", "misc", "Oktay O et al.", 2018,
                  "Attention U-Net: learning where to look for the pancreas",
                  "arXiv:1804.03999", "10.48550/arXiv.1804.03999"),
        Reference("paszke2016", "misc", "Paszke A et al.", 2016,
                  "ENet: a deep neural network architecture for real-time semantic segmentation",
                  "arXiv:1606.02147", "10.48550/arXiv.1606.02147"),
        Reference("paszke2019", "misc", "Paszke A et al.", 2019,
                  "PyTorch: an imperative style, high-performance deep learning library",
                  "arXiv:1912.01703", "10.48550/arXiv.1912.01703"),
        Reference("pauly2015", "article", "Pauly M & Brunner E & Konietschke F", 2015,
                  "Asymptotic permutation tests in general factorial designs",
                  "Journal of the Royal Statistical Society Series B 77:461-473", "10.1111/rssb.12073"),
        Reference("ronneberger2015", "inproceedings", "Ronneberger O & Fischer P & Brox T", 2015,
                  "U-Net: convolutional networks for biomedical image segmentation",
                  "MICCAI 2015, 234-241", "10.1007/978-3-319-24574-4_28"),
        Reference("schuirmann1987", "article", "Schuirmann DJ", 1987,
                  "A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of average bioavailability",
                  "Journal of Pharmacokinetics and Biopharmaceutics 15:657-680", "10.1007/BF01068419"),
        Reference("segstudy", "misc", "The segstudy authors", 2026,
                  "segstudy: reproducible segmentation studies in medical images",
                  f"Version {__version__}"),
        Reference("shapiro1965", "article", "Shapiro SS & Wilk MB", 1965,
                  "An analysis of variance test for normality (complete samples)",
                  "Biometrika 52:591-611", "10.1093/biomet/52.3-4.591"),
        Reference("salehi2017", "inproceedings",
                  "Salehi SSM & Erdogmus D & Gholipour A", 2017,
                  "Tversky loss function for image segmentation using 3D fully convolutional deep networks",
                  "MLMI 2017, 379-387", "10.1007/978-3-319-67389-9_44"),
        Reference("shit2021", "inproceedings", "Shit S et al.", 2021,
                  "clDice: a novel topology-preserving loss function for tubular structure segmentation",
                  "CVPR 2021, 16560-16569", "10.1109/CVPR46437.2021.01629"),
        Reference("sitzmann2020", "misc", "Sitzmann V et al.", 2020,
                  "Implicit neural representations with periodic activation functions",
                  "arXiv:2006.09661", "10.48550/arXiv.2006.09661"),
        Reference("taha2015", "article", "Taha AA & Hanbury A", 2015,
                  "Metrics for evaluating 3D medical image segmentation: analysis, selection, and tool",
                  "BMC Medical Imaging 15:29", "10.1186/s12880-015-0068-x"),
        Reference("ulyanov2016", "misc", "Ulyanov D & Vedaldi A & Lempitsky V", 2016,
                  "Instance normalization: the missing ingredient for fast stylization",
                  "arXiv:1607.08022", "10.48550/arXiv.1607.08022"),
        Reference("welch1947", "article", "Welch BL", 1947,
                  "The generalization of 'Student's' problem when several different population variances are involved",
                  "Biometrika 34:28-35", "10.1093/biomet/34.1-2.28"),
        Reference("westfall1993", "book", "Westfall PH & Young SS", 1993,
                  "Resampling-based multiple testing: examples and methods for p-value adjustment",
                  "Wiley, New York"),
        Reference("wiesenfarth2021", "article", "Wiesenfarth M et al.", 2021,
                  "Methods and open-source toolkit for analyzing and visualizing challenge results",
                  "Scientific Reports 11:2369", "10.1038/s41598-021-82017-6"),
        Reference("wilcoxon1945", "article", "Wilcoxon F", 1945,
                  "Individual comparisons by ranking methods",
                  "Biometrics Bulletin 1:80-83", "10.2307/3001968"),
        Reference("woo2018", "misc", "Woo S & Park J & Lee JY & Kweon IS", 2018,
                  "CBAM: convolutional block attention module",
                  "arXiv:1807.06521", "10.48550/arXiv.1807.06521"),
        Reference("zenk2025", "article", "Zenk M et al.", 2025,
                  "Comparative benchmarking of failure detection methods in medical image segmentation: unveiling the role of "
                  "confidence aggregation",
                  "Medical Image Analysis 101:103392", "10.1016/j.media.2024.103392"),
    )
}  # fmt: skip
CITED = re.compile(rf"\[\[({'|'.join(REFERENCES)})\]\]")
"""A citation in a text, by its key; other words in double brackets are somebody's own."""
