# cmake -DIN=k_plan.py -DOUT=k_plan_loader.cpp -P embed_loader.cmake: the Python text as a C++ string.
file(READ ${IN} text)
file(WRITE ${OUT} "#include \"train/interchange/k_plan_loader.h\"\n\nnamespace mmoe {\n\nconst char* const kKPlanLoader = R\"_python_(${text})_python_\";\n\n}  // namespace mmoe\n")
