"""Ids of what is there, in most of the paths: ids that nobody has are answered with `404`, and would
be all that is tried."""

import json
import os
import random

import schemathesis

IDS = json.load(open(os.environ["CREWLOG_IDS"]))
RANDOM = random.Random(os.environ["CREWLOG_SEED"])
# How often an id is one of something that is there.
OFTEN = 0.8
# Whatever the log is at when somebody asks, it has reached this.
POSITION_MAX = 1
# What would end, lock or slow down what the rest is tried on.
ENDING = ("/archive", "/legal-hold", "/limits", "/plan", "/policy", "/transfer-ownership", "/close")


@schemathesis.hook
def before_call(context, case, kwargs):
    ends = case.method.upper() == "DELETE" or case.path.endswith(ENDING)
    ids = IDS["spare"] if ends else IDS["kept"]
    for name in case.path_parameters or {}:
        known = ids.get(name)
        if case.path.startswith("/v1/sessions/"):
            known = IDS["session"]
        elif name == "key" and case.path.startswith("/v1/organizations/"):
            known = ids["key_of_organization"]
        if known and RANDOM.random() < OFTEN:
            case.path_parameters[name] = known
    # A position that is never reached is waited for, and then told with `503`: as it should be.
    asked = (case.headers or {}).get("Crewlog-Position")
    if asked is not None and str(asked).isdecimal() and int(asked) > POSITION_MAX:
        case.headers["Crewlog-Position"] = "1"
