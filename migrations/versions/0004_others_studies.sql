-- Two rules bind what Optuna's tables hold of our studies, whoever writes it; studies of others are Optuna's own matter.
-- The functions are run as their owner: whoever writes studies of their own needs no right to our tables.
ALTER TABLE public.trial_values DROP CONSTRAINT trimtab_finite;
CREATE FUNCTION trimtab.refuse_infinite() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT FROM public.trials JOIN trimtab.studies USING (study_id) WHERE trial_id = NEW.trial_id) THEN
        RAISE check_violation USING CONSTRAINT = 'trimtab_finite', MESSAGE = 'a trial of trimtab has a finite value';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trimtab_finite BEFORE INSERT OR UPDATE ON public.trial_values FOR EACH ROW
    WHEN (NEW.value_type <> 'FINITE' OR NEW.value = 'NaN')
    EXECUTE FUNCTION trimtab.refuse_infinite();

-- No index binds the rows of some studies alone.
DROP INDEX public.trimtab_trial_number;
CREATE INDEX trimtab_trials_by_number ON public.trials (study_id, number);
CREATE FUNCTION trimtab.refuse_second_number() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM trimtab.studies WHERE study_id = NEW.study_id) THEN
        RETURN NEW;
    END IF;
    -- Trials of a study are numbered one after the other: Optuna holds this row already, others wait here.
    PERFORM FROM public.studies WHERE study_id = NEW.study_id FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM public.trials
               WHERE study_id = NEW.study_id AND number = NEW.number AND trial_id <> NEW.trial_id) THEN
        RAISE unique_violation USING CONSTRAINT = 'trimtab_trial_number', MESSAGE = 'the study has a trial of this number';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trimtab_trial_number BEFORE INSERT OR UPDATE OF study_id, number ON public.trials FOR EACH ROW
    WHEN (NEW.number IS NOT NULL)
    EXECUTE FUNCTION trimtab.refuse_second_number();
