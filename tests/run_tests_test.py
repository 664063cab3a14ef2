"""The counting of test results: a crash or a lost result is a failure, never silence."""

import run_tests

XML = """<testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="m">assert 1 == 2</failure></testcase>
<testcase classname="a" name="skip"><skipped message="needs a GPU"/></testcase>
</testsuite></testsuites>"""


def googletest(*cases):
    return {"testsuites": [{"name": "Suite", "testsuite": list(cases)}]}


GOOD = {"name": "good", "status": "RUN", "result": "COMPLETED"}
BAD = {"name": "bad", "status": "RUN", "result": "COMPLETED", "failures": [{"failure": "x.cpp:1\nExpected: 1"}]}
SKIPPED = {"name": "gpu", "status": "RUN", "result": "SKIPPED"}
OUTPUT = """[ RUN      ] Suite.gpu
x_test.cpp:1: Skipped
no GPU
[  SKIPPED ] Suite.gpu (0 ms)
"""


def test_cases_are_counted_by_result():
    count = run_tests.Count()
    run_tests.count_googletest("p", googletest(GOOD, GOOD, BAD, SKIPPED), False, OUTPUT, count)
    assert count.line() == "2 passed, 1 failed, 1 skipped"
    assert count.failures[0][0] == "p: Suite.bad"
    assert count.skips == {"no GPU": 1}


def test_a_lost_result_is_a_failure():
    count = run_tests.Count()
    run_tests.count_googletest("p", None, False, "Segmentation fault", count)
    assert count.line() == "0 passed, 1 failed"
    assert "Segmentation fault" in count.failures[0][1]


def test_an_error_after_the_last_case_is_a_failure():
    count = run_tests.Count()
    run_tests.count_googletest("p", googletest(GOOD), False, "LeakSanitizer", count)
    assert count.line() == "1 passed, 1 failed"


def test_pytest_results_are_counted(tmp_path):
    junit = tmp_path / "pytest.xml"
    junit.write_text(XML)
    count = run_tests.Count()
    run_tests.count_pytest(junit, 1, count)
    assert count.line() == "1 passed, 1 failed, 1 skipped"


def test_a_lost_pytest_result_is_a_failure(tmp_path):
    count = run_tests.Count()
    run_tests.count_pytest(tmp_path / "none.xml", 4, count)
    assert count.line() == "0 passed, 1 failed"


def test_a_clean_count_names_no_skips():
    count = run_tests.Count()
    run_tests.count_googletest("p", googletest(GOOD), True, "", count)
    assert count.line() == "1 passed, 0 failed"
