"""What moto makes of requests under policies: a list of booleans for a list of cases."""

import json
import sys

from moto.iam.access_control import IAMPolicy, PermissionResult


def permitted(case):
    document = json.dumps({"Version": "2012-10-17", "Statement": case["statements"]})
    policy = IAMPolicy({"policy_document": document})
    return policy.is_action_permitted(case["action"], case["resource"]) == PermissionResult.PERMITTED


print(json.dumps([permitted(case) for case in json.load(sys.stdin)]))
