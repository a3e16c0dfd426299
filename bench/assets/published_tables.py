"""What is published of each benchmark's data: names, counts and hashes of its tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What is known of a table of a data set."""

    rows: int | None
    """None: nobody here knows."""
    identity: str = ""
    """Of the content, as `bench.cli.verify` makes it; empty: nobody here knows."""
    fields: tuple[str, ...] = ()
    """What is read of a row, in the order of the identity."""


QA = ("question", "answer")

PERTURBED = (*QA, "paraphrased_answer", "perturbed_answer", "paraphrased_question")

CHOICES = ("question", "option1", "option2", "option3", "option4", "answer")

WRONG = (*QA, "perturbed_answer")

TEXT = ("text",)

TOFU = {
    "full": Published(4000, "826d2d04242e0a3356a7fc7aee0373083c4f86bba838ab3dde70f18e981fafe8", QA),
    "forget01": Published(40, "675735e0b2609ad1f7f400e9e55aa0120dec947259f9326c0f3cfbb7f97d3f03", QA),
    "forget05": Published(200, "23dfad49c9942a9251ed6bcffbd0e81de01274e144591c8fd8a6059e6f7902d5", QA),
    "forget10": Published(400, "29c187fa66dac477ae50e7c1973686d0eac5a60545068e98e9a5f81367a96cca", QA),
    "retain90": Published(3600, "434db8a5ee50de1f09daf59ef4ebed928421ef9bbbccf2b3695475266ac9d75b", QA),
    "retain95": Published(3800, "5dfba4d4678cfcf445ccdd38568f6b17be4eaab4e31aae4fa193f2b2f2b91310", QA),
    "retain99": Published(3960, "4ba88f7c03ca10ba13df87f845bedaef38db635509a8d34bd316a0c3060d85d1", QA),
    "holdout01": Published(40, "619f2a31a22670d53b4082f66497e5b32ff2f7c79775fa8546ed112671819ef6", QA),
    "holdout05": Published(200, "e7965dc2a49098114ef89a26cd4edfb35c818fdf06c25d982d3145fb610216ae", QA),
    "holdout10": Published(400, "fdb802495cd33389627ff3f2c57a66f252fa1fd9d2874137a2a428e14e90e63b", QA),
    "world_facts": Published(117, "7d63cdff2b23690d4cc309ef67068e2e35493a0a607ceab82e01289f388d88f9", CHOICES),
    "real_authors": Published(100, "3590ed931e76c7ecf0ed3b359ac3bddae9561051ffe01a245c7b16ff4402cc0b", CHOICES),
    "forget01_perturbed": Published(40, "694e0143af25474575ac35510347d9d1fa7dd825940a087c13c4b2ed16d03ad8", PERTURBED),
    "forget05_perturbed": Published(200, "61d61eff5a27bdae4116462702f1ec649950974eb5875751a2bd7df6a150d943", PERTURBED),
    "forget10_perturbed": Published(400, "7b8f5fcdbab14282a7ff535b26e2de303e3aca3a134e1f36abe0fb0d67e7645c", PERTURBED),
    "retain_perturbed": Published(400, "0f5a01a318790e9ad870fced14c987e85a0e85dfb3b1c6c283bc6b9dd86372fd", PERTURBED),
    "world_facts_perturbed": Published(117, "946ae16985c078f876369ae2bfc2fcd05abf837d4297dd4ee26ca578369f3d12", WRONG),
    "real_authors_perturbed": Published(100, "39307fc5584f97bdb69cd7867713607039422ea6fdcb160d7f84330765b6fbf5", WRONG),
}
"""All eighteen configurations, from a copy whose rows are the hub's."""

RESTOR = {
    "questions": Published(1051, "9181f5b00ddbc8714890db435ed3cdd274a545cf97b8596f1e1a1af83e8f0145"),
    "mix_a0": Published(3000, "3665025dfcb3f75645f65c21cb0755ca28c6be31"),
    "mix_a1": Published(3000, "e519f211ca3fe575c8a3e616f3da947b11580b36"),
    "mix_a2": Published(3000, "98f01bfbfe039fac41cf845c9dd20e82b1595c58"),
    "mix_a3": Published(2700, "4c36d2fea53ae7dd2d1add3bf375c5be51de97d5"),
    "mix_a4": Published(None, "dc2d20223c3958705ba4c8f2c80e156e81bb013f"),
    "mix_a5": Published(None, "9b49f38bb55c5beecc5bf0785061e6dc1d1280e9"),
    "squad_v7": Published(3107, "0c315b37d19b2b27814116b5959eae24e521c107"),
}
"""At commit 15292e5; a corpus' identity is its file's git blob."""

MUSE_BOOKS = {
    "knowmem/forget_qa": Published(100, fields=QA),
    "knowmem/retain_qa": Published(100, fields=QA),
    "knowmem/forget_qa_icl": Published(10, fields=QA),
    "knowmem/retain_qa_icl": Published(10, fields=QA),
    "privleak/forget": Published(100, fields=TEXT),
    "privleak/retain": Published(100, fields=TEXT),
    "privleak/holdout": Published(100, fields=TEXT),
    "verbmem/forget": Published(None, fields=("prompt", "gt")),
    "raw/forget": Published(4, fields=TEXT),
    "raw/retain1": Published(12, fields=TEXT),
    "raw/retain2": Published(13, fields=TEXT),
    "raw/holdout": Published(3, fields=TEXT),
}
"""Counts of the data set's card; its books are in copyright, and no copy was ever here to hash."""

BOOKS = {
    "knowmem/forget_qa": Published(100, "8b7d1afba5dbd042b34706b2c133b88e2982c45d9c1a893a7e0559a1357b20a6", QA),
    "knowmem/retain_qa": Published(100, "67e046cb0e1b02ca98fbb6496578f93454f053fcece0ee47ec8530f86857af1c", QA),
    "knowmem/forget_qa_icl": Published(10, "2b65387a0ce3b1d62ad973e20980875468536f5c717e9760798d81ea5132b011", QA),
    "knowmem/retain_qa_icl": Published(10, "1b074284e38e177a1dd136b59bc34e95118c10ec1de343ce8e005d8073b53019", QA),
    "privleak/forget": Published(100, "80277b96b681548ea2fc85416ce2ba9c7b50f7fa0a26a062996f31170f18340d", TEXT),
    "privleak/retain": Published(100, "6dbd2eeb2035054c1e534b8452f3d579e2def608c0e8a8996dd10a5139830e58", TEXT),
    "privleak/holdout": Published(100, "f95382b8dbc7ca88b7db2dd67a0a541095d07cea48f770119e55762e9b134618", TEXT),
    "verbmem/forget": Published(
        100, "486765547fe6b5b0ca45e069602996f3b0cf2ea0b83923e9bd1765cae4e6439e", ("prompt", "gt")
    ),
    "raw/forget": Published(2, "6977f78c05f102cbc3e53ccc888f36623d1d8460d08815f776366b7a64aadfaf", TEXT),
    "raw/retain1": Published(26, "e149e985d17c05667fc23a1bcec64dff627c685bb7dc29558d3a37bf9817b07f", TEXT),
    "raw/retain2": Published(37, "92128103df34ab2276c1c885ab3edbb1cb703482a67600f4b07e1dab4df56178", TEXT),
    "raw/holdout": Published(2, "8b645aa9e008b94e1f89c48ce2d16f9af117bbf8bcc2efed10764ef72cf5a69d", TEXT),
}

MUSE_COUNTS = (4, 12, 13, 3, 100, 100, 100, 100, 100, 10, 100, 10)
"""Rows of MUSE-Books' tables, in the order above. No hash of its texts was ever seen here."""

STAND_IN = {
    "train/forget": "6977f78c05f102cbc3e53ccc888f36623d1d8460d08815f776366b7a64aadfaf",
    "train/retain1": "e149e985d17c05667fc23a1bcec64dff627c685bb7dc29558d3a37bf9817b07f",
    "train/retain2": "92128103df34ab2276c1c885ab3edbb1cb703482a67600f4b07e1dab4df56178",
    "raw/holdout": "8b645aa9e008b94e1f89c48ce2d16f9af117bbf8bcc2efed10764ef72cf5a69d",
    "verbmem/forget": "486765547fe6b5b0ca45e069602996f3b0cf2ea0b83923e9bd1765cae4e6439e",
    "privleak/forget": "80277b96b681548ea2fc85416ce2ba9c7b50f7fa0a26a062996f31170f18340d",
    "privleak/retain": "6dbd2eeb2035054c1e534b8452f3d579e2def608c0e8a8996dd10a5139830e58",
    "privleak/holdout": "f95382b8dbc7ca88b7db2dd67a0a541095d07cea48f770119e55762e9b134618",
    "knowmem/forget_qa": "8b7d1afba5dbd042b34706b2c133b88e2982c45d9c1a893a7e0559a1357b20a6",
    "knowmem/forget_qa_icl": "2b65387a0ce3b1d62ad973e20980875468536f5c717e9760798d81ea5132b011",
    "knowmem/retain_qa": "67e046cb0e1b02ca98fbb6496578f93454f053fcece0ee47ec8530f86857af1c",
    "knowmem/retain_qa_icl": "1b074284e38e177a1dd136b59bc34e95118c10ec1de343ce8e005d8073b53019",
}
"""`table_hashes` of the public-domain stand-in that this was written with; no data with one of them are MUSE-Books."""

BLOBS = {
    "mix_a0": "3665025dfcb3f75645f65c21cb0755ca28c6be31",
    "mix_a1": "e519f211ca3fe575c8a3e616f3da947b11580b36",
    "mix_a2": "98f01bfbfe039fac41cf845c9dd20e82b1595c58",
    "mix_a3": "4c36d2fea53ae7dd2d1add3bf375c5be51de97d5",
    "mix_a4": "dc2d20223c3958705ba4c8f2c80e156e81bb013f",
    "mix_a5": "9b49f38bb55c5beecc5bf0785061e6dc1d1280e9",
    "squad_v7": "0c315b37d19b2b27814116b5959eae24e521c107",
}
"""Corpus -> git's name of the published file (`git hash-object`)."""
