"""Fair comparisons: baseline and projected optimizers tuned alike, retrained from fresh seeds, tested once, and judged.

    register   protocol     what will be done, in a file that later steps refuse to contradict
    tune       grid, tuning every optimizer with the same trials on held-out training data
    retrain    runs         the best of each on all training data, from fresh seeds
    test       outcome      the scores after the last epoch, sealed in a file
    report     outcome, page   differences, verdicts, and all else that decides how to read them

Every run is an ordinary run folder, so each stage resumes, and several processes share the work. Nothing is printed.
"""
