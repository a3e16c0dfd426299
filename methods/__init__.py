"""Unlearning methods, one file each. Importing this loads none of them."""

TABLE = {
    "msa": "methods.msa:MSA",
    "task-arithmetic": "methods.task_arithmetic:TaskArithmetic",
    "ga": "methods.ga:GradientAscent",
    "graddiff": "methods.graddiff:GradDiff",
    "npo": "methods.npo:NPO",
    "before": "methods.before:Before",
    "rewind": "methods.rewind:Rewind",
    "interpolate": "methods.interpolate:Interpolate",
    "max-update": "methods.max_update:MaxUpdate",
    "random": "methods.random_update:RandomUpdate",
    "finetune": "methods.finetune:Finetune",
    "repair": "methods.repair:Repair",
    "retrain": "methods.retrain:Retrain",
}
"""Name -> ``module:Class``; a new method is one file and one line here."""
