"""Unlearning methods, one file each. Importing this loads none of them."""

TABLE = {
    "msa": "methods.msa:MSA",
    "task-arithmetic": "methods.task_arithmetic:TaskArithmetic",
    "ga": "methods.ga:GradientAscent",
    "graddiff": "methods.graddiff:GradDiff",
    "npo": "methods.npo:NPO",
    "simnpo": "methods.simnpo:SimNPO",
    "wga": "methods.wga:WGA",
    "satimp": "methods.satimp:SatImp",
    "tnpo": "methods.tnpo:TNPO",
    "undial": "methods.undial:Undial",
    "ce-u": "methods.ce_u:CEU",
    "pdu": "methods.pdu:PDU",
    "rmu": "methods.rmu:RMU",
    "transfer": "methods.transfer:Transfer",
    "idk-nll": "methods.idk_nll:IdkNLL",
    "idk-dpo": "methods.idk_dpo:IdkDPO",
    "altpo": "methods.altpo:AltPO",
    "flat": "methods.flat:FLAT",
    "before": "methods.before:Before",
    "finetune": "methods.finetune:Finetune",
    "repair": "methods.repair:Repair",
    "retrain": "methods.retrain:Retrain",
}
"""Name -> ``module:Class``; a new method is one file and one line here."""
