"""Weights of users by name and by group, as this machine knows them."""

import grp
import os
import pwd

from supervisor.system.users import unknown_in, weights_of

ROOT = pwd.getpwuid(0)
GROUPS = [grp.getgrgid(gid).gr_name for gid in os.getgrouplist(ROOT.pw_name, ROOT.pw_gid)]
#: A group that root is not in.
OTHER_GROUP = next(one.gr_name for one in grp.getgrall() if one.gr_name not in GROUPS)


def test_a_user_who_is_named_has_what_is_said_of_him():
    """
    Whatever his groups have; also one whom this machine does not know by name.
    """
    said = {"root": 0.5, f"group:{GROUPS[0]}": 9.0, "uid-4000321": 3.0}

    assert {"root": 0.5, "uid-4000321": 3.0} == weights_of(("root", "uid-4000321"), said)


def test_else_the_most_of_his_groups_or_one():
    """
    Groups that he is not in, and such as are not there, are nothing to him.
    """
    said = {f"group:{OTHER_GROUP}": 99.0, "group:no-such-group": 77.0, "ada": 5.0}
    with_own = said | {f"group:{GROUPS[0]}": 4.0}

    assert {"root": 1.0, "uid-4000321": 1.0} == weights_of(("root", "uid-4000321"), said)
    assert {"root": 4.0, "uid-0": 4.0, "uid-4000321": 1.0} == weights_of(
        ("root", "uid-0", "uid-4000321"), with_own
    )


def test_words_that_name_nobody_here_are_told():
    """
    A slip of the pen would leave somebody with weight 1 in silence.
    """
    said = ("root", "uid-0", f"group:{GROUPS[0]}", "no-such-user", "group:no-such-group", "uid-99999999999")

    assert ["no-such-user", "group:no-such-group", "uid-99999999999"] == unknown_in(said)
