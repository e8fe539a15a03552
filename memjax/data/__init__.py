"""Data: what a run trains on (tasks, texts, pictures of digits) and the loaders that turn it into batches."""

from memjax.data.config import DigitData as DigitData
from memjax.data.config import StoredData as StoredData
from memjax.data.config import TaskData as TaskData
from memjax.data.config import TaskSlice as TaskSlice
from memjax.data.config import TextData as TextData
from memjax.data.config import TfdsData as TfdsData
from memjax.data.files import Splits as Splits
from memjax.data.files import splits as splits
from memjax.data.loader import check as check
from memjax.data.loader import describe as describe
from memjax.data.loader import eval_loader as eval_loader
from memjax.data.loader import scored as scored
from memjax.data.loader import train_loader as train_loader
from memjax.data.tokenizers import load_tokenizer as load_tokenizer
